//! The preview of Helium (Kyutai 2025): Llama with rotations of neighbouring dimensions. Helium-1 says that it is a Llama.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::maps::unpair_llama;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "helium",
    family: Family::Llama,
    model_types: &["helium"],
    architectures: &["HeliumForCausalLM", "HeliumModel"],
    known_models: &[KnownModel::new("Helium-1-Preview-2B", "kyutai/helium-1-preview-2b", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let defaults = json!({ "head_dim": 128, "rms_norm_eps": 1e-8, "rope_theta": 1e5 });
    let mut spec = llama::spec(&config.with_defaults(defaults))?;
    attentions(&mut spec).for_each(|(_, attention)| attention.bias.output = false);
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    unpair_llama(&mut map.stacks[0], spec);
    Ok(map)
}
