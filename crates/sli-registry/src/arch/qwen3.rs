//! Qwen3 (Yang et al. 2025): Llama with an RMS norm on each head of queries and keys, before the rotation.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::{llama, qwen2};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, norm_heads};
use crate::config::HfConfig;
use crate::maps::head_norms;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "qwen3",
    family: Family::Qwen,
    model_types: &["qwen3"],
    architectures: &["Qwen3ForCausalLM", "Qwen3Model"],
    known_models: &[KnownModel::new("Qwen3-8B/32B", "Qwen/Qwen3-32B", "heads of 128")],
    spec,
    weights,
};

pub(crate) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &config.with_defaults(json!({ "head_dim": 128 }));
    let mut spec = llama::spec(config)?;
    let windows = qwen2::windows(config, spec.num_layers())?;
    for (layer, attention) in attentions(&mut spec) {
        attention.mask = windows[layer];
    }
    norm_heads(&mut spec);
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    head_norms(&mut map.stacks[0]);
    Ok(map)
}
