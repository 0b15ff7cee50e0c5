//! OLMoE (Muennighoff et al. 2024): Llama with norms of whole queries and keys, and experts in every layer.

use sli_core::{Family, ModelSpec, QkNorm, Result, RouterSpec, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert};
use crate::maps::head_norms;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "olmoe",
    family: Family::Moe,
    model_types: &["olmoe"],
    architectures: &["OlmoeForCausalLM", "OlmoeModel"],
    known_models: &[KnownModel::new("OLMoE-1B-7B", "allenai/OLMoE-1B-7B-0924", "8 of 64 experts")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(config)?;
    let norm = spec.stacks[0].layers[0].norm;
    let clip = config.optional_f64("clip_qkv")?;
    for (_, attention) in attentions(&mut spec) {
        (attention.qk_norm, attention.clip) = (Some(QkNorm::Whole(norm)), clip);
    }
    let num_experts = config.usize("num_experts")?;
    let normalize = config.bool_or("norm_topk_prob", false)?;
    let router = RouterSpec::softmax(config.usize("num_experts_per_tok")?, normalize);
    mix(&mut spec, |_| true, |mlp| gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size));
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    head_norms(&mut map.stacks[0]);
    let names = ["gate_proj", "up_proj", "down_proj"];
    per_expert(&mut map.stacks[0], "{prefix}layers.{layer}.mlp.", "gate", names);
    Ok(map)
}
