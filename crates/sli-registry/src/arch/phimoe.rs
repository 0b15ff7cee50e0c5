//! Phi-3.5-MoE (Abdin et al. 2024): Mixtral's blocks with layer norms and biases, and experts chosen by sparsemixer.

use serde_json::json;
use sli_core::{
    Family, ModelSpec, NormSpec, PositionSpec, Result, RopeScaling, RouterSpec, Scoring, TensorRole,
    WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, set_norm, slide};
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "phimoe",
    family: Family::Phi,
    model_types: &["phimoe"],
    architectures: &["PhimoeForCausalLM", "PhiMoEForCausalLM", "PhimoeModel"],
    known_models: &[
        KnownModel::new("Phi-3.5-MoE (42B)", "microsoft/Phi-3.5-MoE-instruct", "2 of 16 experts"),
        KnownModel::new("Phi-mini-MoE", "microsoft/Phi-mini-MoE-instruct", "2 of 16 experts"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    config.ignore(&["input_jitter_noise", "hidden_dropout"]);
    let config = &config.with_defaults(json!({ "rms_norm_eps": 1e-5, "rope_theta": 1e6 }));
    let mut spec = llama::spec(config)?;
    slide(&mut spec, config)?;
    scale_rotations(&mut spec, config)?;
    set_norm(&mut spec, NormSpec::layer(config.f64("rms_norm_eps")?));
    if let Some(head) = &mut spec.head {
        head.bias = config.bool_or("lm_head_bias", false)?;
    }
    let num_experts = config.usize(config.first_of(&["num_local_experts", "num_experts"]))?;
    let router = RouterSpec {
        scoring: Scoring::Sparsemixer { jitter: config.f64_or("router_jitter_noise", 0.01)? },
        ..RouterSpec::softmax(config.usize("num_experts_per_tok")?, false)
    };
    mix(&mut spec, |_| true, |mlp| gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size));
    Ok(spec)
}

/// The released config says by what stretched rotations are multiplied, for short and for long samples alike.
fn scale_rotations(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let section = match config.section("rope_scaling")? {
        Some(section) => Some(section),
        None => config.section("rope_parameters")?,
    };
    let Some(section) = section else { return Ok(()) };
    let (short, long) = (section.optional_f64("short_mscale")?, section.optional_f64("long_mscale")?);
    if short != long {
        return Err(section.invalid("short_mscale", "the same as long_mscale"));
    }
    for (_, attention) in attentions(spec) {
        if let PositionSpec::Rope(rope) = &mut attention.position
            && let (RopeScaling::LongRope { attention_factor, .. }, Some(factor)) = (&mut rope.scaling, short)
        {
            *attention_factor = factor;
        }
    }
    Ok(())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    map.head.tensor(TensorRole::LmHead.bias(), &["lm_head.bias"], &[]);
    per_expert(&mut map.stacks[0], "{prefix}layers.{layer}.block_sparse_moe.", "gate", ["w1", "w3", "w2"]);
    Ok(map)
}
