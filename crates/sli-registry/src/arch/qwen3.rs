//! Qwen3 (Yang et al. 2025): Llama with an RMS norm on each head of queries and keys, before the rotation.

use serde_json::json;
use sli_core::{Family, ModelSpec, QkNorm, Result, TensorRole, WeightMap};

use super::{llama, qwen2};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, layers, modules};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "qwen3",
    family: Family::Qwen,
    model_types: &["qwen3"],
    architectures: &["Qwen3ForCausalLM", "Qwen3Model"],
    known_models: &[KnownModel::new("Qwen3-8B/32B", "Qwen/Qwen3-32B", "heads of 128")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &config.with_defaults(json!({ "head_dim": 128 }));
    let mut spec = llama::spec(config)?;
    let windows = qwen2::windows(config, spec.num_layers())?;
    for (layer, attention) in attentions(&mut spec) {
        attention.mask = windows[layer];
    }
    norm_heads(&mut spec);
    Ok(spec)
}

/// Puts the norm of each layer's branches on its queries and keys too.
pub(crate) fn norm_heads(spec: &mut ModelSpec) {
    let norms: Vec<_> = layers(spec).map(|(_, block)| block.norm).collect();
    for (layer, attention) in attentions(spec) {
        attention.qk_norm = Some(QkNorm::PerHead(norms[layer]));
    }
}

pub(crate) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    let names = [(TensorRole::AttnQNorm, "q_norm"), (TensorRole::AttnKNorm, "k_norm")];
    modules(&mut map.stacks[0], "{prefix}layers.{layer}.self_attn.", &names);
    Ok(map)
}
