//! Qwen3 with experts (Yang et al. 2025): Qwen3's attention, and in most layers a mixture of experts in place of the
//! MLP. `decoder_sparse_step` and `mlp_only_layers` say in which.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, RouterSpec, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{norm_heads, require, slide};
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert};
use crate::maps::head_norms;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "qwen3_moe",
    family: Family::Moe,
    model_types: &["qwen3_moe"],
    architectures: &["Qwen3MoeForCausalLM", "Qwen3MoeModel"],
    known_models: &[
        KnownModel::new("Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B", "8 of 128 experts"),
        KnownModel::new("Qwen3-235B-A22B", "Qwen/Qwen3-235B-A22B", "8 of 128 experts"),
        KnownModel::new("Qwen3-Coder-480B-A35B", "Qwen/Qwen3-Coder-480B-A35B-Instruct", "8 of 160 experts"),
    ],
    spec,
    weights,
};

pub(crate) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Of other Qwen models: here the window is on every layer or on none.
    config.ignore(&["max_window_layers", "layer_types"]);
    require(config, "use_qk_norm", true)?;
    if config.count_or("shared_expert_intermediate_size", 0)? != 0 {
        return Err(config.invalid("shared_expert_intermediate_size", "0"));
    }
    let mut spec = llama::spec(config)?;
    let window_used = config.bool_or("use_sliding_window", false)?;
    let config = &config.with_defaults(json!({ "sliding_window": 4096 }));
    if window_used {
        slide(&mut spec, config)?;
    }
    config.ignore(&["sliding_window"]);
    norm_heads(&mut spec);

    qwen_experts(&mut spec, config)?;
    Ok(spec)
}

/// Experts in the layers that `decoder_sparse_step` and `mlp_only_layers` leave.
pub(super) fn qwen_experts(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let num_experts = config.usize(config.first_of(&["num_experts", "num_local_experts"]))?;
    let normalize = config.bool_or("norm_topk_prob", false)?;
    let router = RouterSpec::softmax(config.usize("num_experts_per_tok")?, normalize);
    let intermediate_size = config.usize("moe_intermediate_size")?;
    let step = config.usize_or("decoder_sparse_step", 1)?;
    let dense = config.usizes("mlp_only_layers")?.unwrap_or_default();
    let is_sparse = |layer: usize| !dense.contains(&layer) && (layer + 1).is_multiple_of(step);
    mix(spec, is_sparse, |mlp| gated_experts(num_experts, router.clone(), mlp, intermediate_size));
    Ok(())
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    head_norms(&mut map.stacks[0]);
    let names = ["gate_proj", "up_proj", "down_proj"];
    per_expert(&mut map.stacks[0], "{prefix}layers.{layer}.mlp.", "gate", names);
    Ok(map)
}
