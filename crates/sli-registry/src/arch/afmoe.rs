//! Arcee's mixtures (Trinity): gated attention with norms of heads, of which only the layers with a window are rotated;
//! norms before and after each branch; sigmoid routing with a correction, and shared experts.

use serde_json::json;
use sli_core::{
    AttentionGate, Family, ModelSpec, MoeSpec, PositionSpec, Residual, Result, RouterSpec, Scoring,
    TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, norm_heads, scale_embedding_by_root, set_residual};
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert, shared_expert, shared_network};
use crate::maps::{head_norms, modules};
use crate::windows::{all_but_every, slide_some};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "afmoe",
    family: Family::Moe,
    model_types: &["afmoe"],
    architectures: &["AfmoeForCausalLM", "AfmoeModel"],
    known_models: &[KnownModel::new(
        "Trinity (AFMoE)",
        "arcee-ai/Trinity-Mini",
        "8 of 128 experts, a shared one",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How experts were balanced in training, and how they are computed.
    config.ignore(&["load_balance_coeff", "use_grouped_mm"]);
    let config =
        &config.with_defaults(json!({ "head_dim": 128, "rms_norm_eps": 1e-5, "sliding_window": 1024 }));
    let mut spec = llama::spec(config)?;
    norm_heads(&mut spec);
    set_residual(&mut spec, Residual::Sandwich);
    if config.bool_or("mup_enabled", false)? {
        scale_embedding_by_root(&mut spec);
    }
    let every = config.usize_or("global_attn_every_n_layers", 4)?;
    let sliding = slide_some(&mut spec, config, all_but_every(every))?;
    for (layer, attention) in attentions(&mut spec) {
        attention.gate = Some(AttentionGate { bias: false });
        if !sliding[layer] {
            attention.position = PositionSpec::None;
        }
    }
    experts(&mut spec, config)?;
    Ok(spec)
}

fn experts(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    for key in ["n_group", "topk_group", "num_expert_groups", "num_limited_groups"] {
        if config.usize_or(key, 1)? != 1 {
            return Err(config.invalid(key, "1: groups of experts are not supported"));
        }
    }
    if config.str_or("score_func", "sigmoid")? != "sigmoid" {
        return Err(config.invalid("score_func", "sigmoid"));
    }
    let router = RouterSpec {
        scoring: Scoring::Sigmoid,
        correction: true,
        normalize: config.bool_or("route_norm", true)?.then_some(1e-20),
        scale: config.f64_or("route_scale", 1.0)?,
        ..RouterSpec::softmax(config.usize_or("num_experts_per_tok", 6)?, false)
    };
    let num_experts = config.usize_or("num_experts", 64)?;
    let intermediate_size = config.usize_or("moe_intermediate_size", 1408)?;
    let num_shared = config.count_or("num_shared_experts", 2)?;
    let dense = config.count_or("num_dense_layers", 1)?;
    mix(
        spec,
        |layer| layer >= dense,
        |mlp| MoeSpec {
            shared: shared_network(mlp, num_shared * intermediate_size),
            ..gated_experts(num_experts, router.clone(), mlp, intermediate_size)
        },
    );
    Ok(())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnGate, FfnNorm, FfnOutNorm, MixerOutNorm, RouterCorrection};
    const MLP: &str = "{prefix}layers.{layer}.mlp.";
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    head_norms(stack);
    let names = [
        (AttnGate, "self_attn.gate_proj"),
        (MixerOutNorm, "post_attention_layernorm"),
        (FfnNorm, "pre_mlp_layernorm"),
        (FfnOutNorm, "post_mlp_layernorm"),
    ];
    modules(stack, "{prefix}layers.{layer}.", &names);
    per_expert(stack, MLP, "router.gate", ["gate_proj", "up_proj", "down_proj"]);
    stack.tensor(RouterCorrection.weight(), &[&format!("{MLP}expert_bias")], &[]);
    shared_expert(stack, &format!("{MLP}shared_experts."));
    Ok(map)
}
