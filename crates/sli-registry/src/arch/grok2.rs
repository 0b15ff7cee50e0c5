//! Grok-2 (xAI 2025): Grok-1's norms and bounds, a dense network beside the experts, whose router is bounded too, and scores
//! that grow with the position beyond a length.

use std::f64::consts::FRAC_1_SQRT_2;

use serde_json::json;
use sli_core::{
    Family, MlpSpec, ModelSpec, Residual, Result, RouterSpec, SharedExpertSpec, Temperature, TensorRole,
    WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, set_residual};
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert, shared_expert};
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "grok2",
    family: Family::Moe,
    // Released configs say "git", which is another model's.
    model_types: &[],
    architectures: &["Grok1ForCausalLM"],
    known_models: &[KnownModel::new(
        "Grok-2 (270B)",
        "xai-org/grok-2",
        "2 of 8 experts; files cut up for 8 devices have to be joined first",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How weights are spread over devices; of stretched rotations, which are not used.
    config.ignore(&["merge_gate_up", "load_presharded_moe", "load_presharded_mlp", "load_presharded_attn"]);
    config.ignore(&["load_presharded_embedding", "replicate_lm_head", "replicate_embedding", "context_len"]);
    config.ignore(&["extrapolation_factor", "attn_factor", "beta_fast", "beta_slow", "scaling_factor"]);
    config.ignore(&["original_max_position_embeddings"]);
    for (key, only) in [("rope_type", "original"), ("attn_logit_softcapping_method", "tanh")] {
        if config.str_or(key, only)? != only {
            return Err(config.invalid(key, only));
        }
    }
    let windows = config.optional_index("sliding_window_size")?;
    if windows.is_some_and(|window| window > 0) && config.usize_or("global_attn_every_n", 1)? != 1 {
        return Err(config.invalid("sliding_window_size", "-1: windows are not supported"));
    }
    config.ignore(&["global_attn_every_n"]);
    let llama =
        config.with(json!({ "hidden_act": "gelu_pytorch_tanh" })).with_defaults(json!({ "head_dim": 128 }));
    let mut spec = llama::spec(&llama)?;
    set_residual(&mut spec, Residual::Sandwich);
    spec.stacks[0].embedding.scale = Some(config.f64_or("embedding_multiplier_scale", 1.0)?);
    let cap = Some(config.f64_or("attn_logit_softcapping", 30.0)?).filter(|cap| *cap > 0.0);
    let length = config.optional_index("attn_temperature_len")?.filter(|length| *length > 0);
    let temperature = length.map(|original_length| Temperature::LogScores { original_length });
    for (_, attention) in attentions(&mut spec) {
        (attention.softcap, attention.temperature) = (cap, temperature);
    }
    let scale = config.f64_or("output_multiplier_scale", 1.0)?;
    let final_cap = config.optional_f64("final_logit_softcapping")?.filter(|cap| *cap > 0.0);
    if let Some(head) = &mut spec.head {
        (head.scale, head.softcap) = (Some(scale), final_cap);
    }

    let beside = config.bool_or("residual_moe", false)?;
    let num_experts = config.usize("num_local_experts")?;
    let inner = config.usize(config.first_of(&["moe_intermediate_size", "intermediate_size"]))?;
    let share = if beside { FRAC_1_SQRT_2 } else { 1.0 };
    let router = RouterSpec {
        softcap: Some(config.f64_or("router_logit_softcapping", 30.0)?).filter(|cap| *cap > 0.0),
        scale: share,
        ..RouterSpec::softmax(config.usize_or("num_experts_per_tok", 2)?, false)
    };
    mix(
        &mut spec,
        |_| true,
        |mlp: MlpSpec| {
            let mut moe = gated_experts(num_experts, router.clone(), mlp, inner);
            moe.shared = beside.then_some(SharedExpertSpec { mlp, gated: false, scale: share });
            moe
        },
    );
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnNorm, FfnOutNorm, MixerNorm, MixerOutNorm};
    const LAYER: &str = "{prefix}layers.{layer}.";
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    let norms = [
        (MixerNorm, "pre_attn_norm"),
        (MixerOutNorm, "post_attn_norm"),
        (FfnNorm, "pre_moe_norm"),
        (FfnOutNorm, "post_moe_norm"),
    ];
    modules(stack, LAYER, &norms);
    per_expert(stack, &format!("{LAYER}block_sparse_moe."), "gate", ["w1", "w3", "w2"]);
    shared_expert(stack, &format!("{LAYER}mlp."));
    Ok(map)
}
