//! Qwen3 with experts (Yang et al. 2025): Qwen3's attention, and in most layers a mixture of experts in place of the
//! MLP. `decoder_sparse_step` and `mlp_only_layers` say in which.

use serde_json::json;
use sli_core::{
    Family, Ffn, MlpSpec, ModelSpec, MoeSpec, Result, RouterSpec, Scoring, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, norm_heads, require, slide};
use crate::config::HfConfig;
use crate::maps::{head_norms, modules};

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

    let num_experts = config.usize(config.first_of(&["num_experts", "num_local_experts"]))?;
    let router = RouterSpec {
        top_k: config.usize("num_experts_per_tok")?,
        scoring: Scoring::Softmax,
        normalize: config.bool_or("norm_topk_prob", false)?,
    };
    let intermediate_size = config.usize("moe_intermediate_size")?;
    let step = config.usize_or("decoder_sparse_step", 1)?;
    let dense = config.usizes("mlp_only_layers")?.unwrap_or_default();
    for (layer, block) in layers(&mut spec) {
        let sparse = !dense.contains(&layer) && (layer + 1).is_multiple_of(step);
        if let (true, Some(Ffn::GatedMlp(mlp))) = (sparse, block.ffn.clone()) {
            let expert = MlpSpec { intermediate_size, ..mlp };
            block.ffn = Some(Ffn::Moe(MoeSpec { num_experts, router: router.clone(), expert }));
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{ExpertDown, ExpertGate, ExpertUp, Router};
    let mut map = llama::weights(config, spec)?;
    head_norms(&mut map.stacks[0]);
    let names = [
        (Router, "gate"),
        (ExpertGate(0), "experts.{expert}.gate_proj"),
        (ExpertUp(0), "experts.{expert}.up_proj"),
        (ExpertDown(0), "experts.{expert}.down_proj"),
    ];
    modules(&mut map.stacks[0], "{prefix}layers.{layer}.mlp.", &names);
    Ok(map)
}
