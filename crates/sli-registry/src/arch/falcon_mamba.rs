//! Falcon Mamba (TII 2024): Mamba with norms on what each token selects.

use sli_core::{Family, Mixer, ModelSpec, NormKind, NormSpec, Result};

use super::mamba;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::layers;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "falcon_mamba",
    family: Family::Mamba,
    model_types: &["falcon_mamba"],
    architectures: &["FalconMambaForCausalLM", "FalconMambaModel"],
    known_models: &[KnownModel::new(
        "Falcon-Mamba-7B",
        "tiiuae/falcon-mamba-7b",
        "norms without weights on the selection",
    )],
    spec,
    weights: mamba::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    config.ignore(&["use_falcon_mambapy"]);
    let mut spec = mamba::spec(config)?;
    let norm = NormSpec { kind: NormKind::RmsUnweighted, eps: config.f64_or("mixer_rms_eps", 1e-6)? };
    for (_, block) in layers(&mut spec) {
        if let Mixer::Mamba1(mamba) = &mut block.mixer {
            mamba.selection_norm = Some(norm);
        }
    }
    Ok(spec)
}
