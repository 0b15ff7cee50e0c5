//! Phi-3 (Abdin et al. 2024) and Phi-4: Llama with queries, keys and values in one matrix, gate and up in another,
//! and perhaps a sliding window.

use serde_json::json;
use sli_core::{Family, Ffn, Mixer, ModelSpec, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::slide;
use crate::config::HfConfig;
use crate::maps::Fused;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "phi3",
    family: Family::Phi,
    model_types: &["phi3"],
    architectures: &["Phi3ForCausalLM", "Phi3Model"],
    known_models: &[
        KnownModel::new("Phi-3-mini-4k", "microsoft/Phi-3-mini-4k-instruct", "sliding window of 2047"),
        KnownModel::new("Phi-3-mini-128k", "microsoft/Phi-3-mini-128k-instruct", "longrope"),
        KnownModel::new("Phi-3-medium-14B", "microsoft/Phi-3-medium-4k-instruct", "10 key heads"),
        KnownModel::new("Phi-4-14B", "microsoft/phi-4", "no window"),
        KnownModel::new(
            "Phi-4-mini",
            "microsoft/Phi-4-mini-instruct",
            "three quarters of a head rotated, tied head",
        ),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Only rotary scalings for long contexts use it.
    config.ignore(&["original_max_position_embeddings"]);
    let mut spec = llama::spec(&config.with_defaults(json!({ "rms_norm_eps": 1e-5 })))?;
    slide(&mut spec, config)?;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnQ, AttnV, MlpGate, MlpUp};
    let mut map = llama::weights(config, spec)?;
    let block = &spec.stacks[0].layers[0];
    if let Mixer::Attention(attention) = &block.mixer {
        let (queries, keys) =
            (attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim);
        Fused::new("{prefix}layers.{layer}.self_attn.qkv_proj")
            .split(&mut map.stacks[0], &[(AttnQ, queries), (AttnK, keys), (AttnV, keys)]);
    }
    if let Some(Ffn::GatedMlp(mlp)) = &block.ffn {
        let rows = mlp.intermediate_size;
        Fused::new("{prefix}layers.{layer}.mlp.gate_up_proj")
            .split(&mut map.stacks[0], &[(MlpGate, rows), (MlpUp, rows)]);
    }
    Ok(map)
}
