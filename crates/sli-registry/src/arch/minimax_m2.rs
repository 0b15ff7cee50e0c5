//! MiniMax-M2 (MiniMax 2025): Llama with norms of whole queries and keys, a part of each head rotated, and experts
//! chosen by sigmoids with a correction in every layer.

use sli_core::{Family, ModelSpec, QkNorm, Result, RouterSpec, Scoring, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, require};
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert};
use crate::maps::head_norms;
use crate::rope::with_counted_dimensions;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "minimax_m2",
    family: Family::Moe,
    model_types: &["minimax_m2"],
    architectures: &["MiniMaxM2ForCausalLM", "MiniMaxM2Model"],
    known_models: &[KnownModel::new("MiniMax-M2 (230B)", "MiniMaxAI/MiniMax-M2", "8 of 256 experts; fp8")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Layers that predict further tokens in training, which are not stored; another model's kinds of attention.
    config.ignore(&[
        "use_mtp",
        "num_mtp_modules",
        "mtp_transformer_layers",
        "attn_type_list",
        "qk_norm_type",
    ]);
    config.ignore(&[
        "layernorm_full_attention_beta",
        "layernorm_linear_attention_beta",
        "layernorm_mlp_beta",
    ]);
    config.ignore(&["max_model_len", "rotary_dim", "shared_moe_mode"]);
    require(config, "use_qk_norm", true)?;
    require(config, "use_routing_bias", true)?;
    if config.count_or("shared_intermediate_size", 0)? != 0 {
        return Err(config.invalid("shared_intermediate_size", "0"));
    }
    if config.str_or("scoring_func", "sigmoid")? != "sigmoid" {
        return Err(config.invalid("scoring_func", "sigmoid"));
    }
    // Older files count the rotated dimensions, others say which part of a head they are.
    let head_dim = config.usize("head_dim")?;
    let config = &with_counted_dimensions(config, head_dim)?;
    let mut spec = llama::spec(config)?;
    let norm = spec.stacks[0].layers[0].norm;
    attentions(&mut spec).for_each(|(_, attention)| attention.qk_norm = Some(QkNorm::Whole(norm)));
    let num_experts = config.usize("num_local_experts")?;
    let router = RouterSpec {
        scoring: Scoring::Sigmoid,
        correction: true,
        ..RouterSpec::softmax(config.usize("num_experts_per_tok")?, true)
    };
    mix(&mut spec, |_| true, |mlp| gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size));
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    const BASE: &str = "{prefix}layers.{layer}.block_sparse_moe.";
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    head_norms(stack);
    per_expert(stack, BASE, "gate", ["w1", "w3", "w2"]);
    stack.tensor(TensorRole::RouterCorrection.weight(), &[&format!("{BASE}e_score_correction_bias")], &[]);
    Ok(map)
}
