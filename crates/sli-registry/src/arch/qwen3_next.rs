//! Qwen3-Next: three layers of linear attention with a gated delta rule for each of softmax attention, whose output is
//! gated; many small experts and a shared one; norms whose weights are stored as offsets from one.

use serde_json::json;
use sli_core::{AttentionGate, Family, LoadOp, ModelSpec, NormSpec, Result, StackMap, TensorRole, WeightMap};

use super::llama;
use super::qwen2_moe::{add_shared_expert, expert_names};
use super::qwen3_moe::qwen_experts;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, norm_heads};
use crate::config::HfConfig;
use crate::delta::{attend_linearly, decay_parameters, delta_net, delta_of, fused_convolutions};
use crate::layer_types::layers_of_type;
use crate::maps::{Fused, head_norms, modules, offset_from_one};
use crate::windows::all_but_every;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "qwen3_next",
    family: Family::Qwen,
    model_types: &["qwen3_next"],
    architectures: &["Qwen3NextForCausalLM", "Qwen3NextModel"],
    known_models: &[KnownModel::new(
        "Qwen3-Next-80B-A3B",
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "delta rule in three of four layers, 10 of 512 experts",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &config.with_defaults(json!({ "norm_topk_prob": true }));
    let mut spec = hybrid(config)?;
    qwen_experts(&mut spec, config)?;
    add_shared_expert(&mut spec, config)?;
    Ok(spec)
}

/// The mixers, which Qwen3.5 shares.
pub(super) fn hybrid(config: &HfConfig) -> Result<ModelSpec> {
    // Of other Qwen models: no layer has a window.
    config.ignore(&["use_sliding_window", "sliding_window", "max_window_layers"]);
    let config = &config.with_defaults(json!({ "head_dim": 256, "partial_rotary_factor": 0.25 }));
    let mut spec = llama::spec(config)?;
    norm_heads(&mut spec);
    for (_, attention) in attentions(&mut spec) {
        attention.gate = Some(AttentionGate { bias: attention.bias.query });
    }
    let every = config.usize_or("full_attention_interval", 4)?;
    let linear = layers_of_type(config, spec.num_layers(), "linear_attention", all_but_every(every))?;
    let norm = NormSpec::rms(config.f64_or("rms_norm_eps", 1e-6)?);
    attend_linearly(&mut spec, &linear, delta_net(config, norm)?);
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = hybrid_weights(config, spec)?;
    let stack = &mut map.stacks[0];
    fused_projections(stack, spec);
    expert_names(stack);
    Ok(map)
}

/// For each key head: query, key, then the values and the gates of the heads that it serves; and likewise what is
/// written and how much remains.
fn fused_projections(stack: &mut StackMap, spec: &ModelSpec) {
    use TensorRole::{DeltaDecay, DeltaGate, DeltaK, DeltaQ, DeltaV, DeltaWrite};
    let Some(delta) = delta_of(spec) else { return };
    let (groups, key_dim, served) =
        (delta.num_key_heads, delta.key_dim, delta.num_heads / delta.num_key_heads);
    let values = served * delta.value_dim;
    Fused { groups, ..Fused::new("{prefix}layers.{layer}.linear_attn.in_proj_qkvz") }
        .split(stack, &[(DeltaQ, key_dim), (DeltaK, key_dim), (DeltaV, values), (DeltaGate, values)]);
    Fused { groups, ..Fused::new("{prefix}layers.{layer}.linear_attn.in_proj_ba") }
        .split(stack, &[(DeltaWrite, served), (DeltaDecay, served)]);
    decay_parameters(stack, "{prefix}layers.{layer}.linear_attn.", &[]);
}

/// All but the projections into the delta rule, which Qwen3.5 stores otherwise, and the feed-forward networks.
pub(super) fn hybrid_weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    const LINEAR: &str = "{prefix}layers.{layer}.linear_attn.";
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    head_norms(stack);
    offset_from_one(stack, &[MixerNorm, FfnNorm, AttnQNorm, AttnKNorm, FinalNorm]);
    // For each head the query and then the gate.
    if let Some(attention) = attention_of(spec) {
        let (groups, head_dim) = (attention.num_heads, attention.head_dim);
        let part = |start| [LoadOp::TakeRows { groups, block: 2 * head_dim, start }];
        let name = "{prefix}layers.{layer}.self_attn.q_proj";
        stack.module_with(AttnQ, name, &part(0)).module_with(AttnGate, name, &part(head_dim));
    }
    if let Some(delta) = delta_of(spec) {
        fused_convolutions(stack, &[&format!("{LINEAR}conv1d.weight")], delta);
    }
    modules(stack, LINEAR, &[(DeltaNorm, "norm"), (DeltaOut, "out_proj")]);
    // Predictions of further tokens in training.
    map.ignored.push("mtp.*".into());
    Ok(map)
}

fn attention_of(spec: &ModelSpec) -> Option<&sli_core::AttentionSpec> {
    spec.stacks[0].layers.iter().find_map(|block| match &block.mixer {
        sli_core::Mixer::Attention(attention) => Some(attention),
        _ => None,
    })
}
