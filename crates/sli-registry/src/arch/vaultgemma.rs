//! VaultGemma (Google 2025): Gemma 2 without the norms after each branch.

use sli_core::{Family, ModelSpec, Residual, Result};

use super::gemma2;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::set_residual;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "vaultgemma",
    family: Family::Gemma,
    model_types: &["vaultgemma"],
    architectures: &["VaultGemmaForCausalLM", "VaultGemmaModel"],
    known_models: &[KnownModel::new("VaultGemma-1B", "google/vaultgemma-1b", "")],
    spec,
    weights: gemma2::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = gemma2::spec(config)?;
    set_residual(&mut spec, Residual::PreNorm);
    Ok(spec)
}
