//! Orion (OrionStar 2024): Llama with layer norms.

use sli_core::{Family, ModelSpec, NormSpec, Result};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::set_norm;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "orion",
    family: Family::Llama,
    model_types: &["orion"],
    architectures: &["OrionForCausalLM", "OrionModel"],
    known_models: &[KnownModel::new("Orion-14B", "OrionStarAI/Orion-14B-Base", "")],
    spec,
    weights: llama::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(config)?;
    // Under the name of an RMS norm's.
    set_norm(&mut spec, NormSpec::layer(config.f64_or("rms_norm_eps", 1e-5)?));
    Ok(spec)
}
