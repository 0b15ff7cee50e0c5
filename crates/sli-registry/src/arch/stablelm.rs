//! StableLM 2 and StableLM 3B (Stability AI 2023): Llama with layer norms, a quarter of each head rotated, and
//! perhaps biases on queries, keys and values; in the 12B model both branches are behind one norm, and each head of
//! queries and keys has a norm of its own.

use serde_json::json;
use sli_core::{
    Family, ModelSpec, NormKind, NormSpec, ProjectionBias, QkNorm, Residual, Result, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, set_norm, set_residual};
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "stablelm",
    family: Family::Llama,
    model_types: &["stablelm", "stablelm_epoch"],
    architectures: &["StableLmForCausalLM", "StableLMEpochForCausalLM", "StableLmModel"],
    known_models: &[KnownModel::new("StableLM-2-12B", "stabilityai/stablelm-2-12b", "branches side by side")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Of the code before transformers' class, which leaves no choice in them.
    config.ignore(&["use_norm_bias", "rotary_scaling_factor"]);
    let share = config.f64_or(config.first_of(&["rope_pct", "partial_rotary_factor"]), 0.25)?;
    let mut spec = llama::spec(&config.with_defaults(json!({ "partial_rotary_factor": share })))?;
    let eps = config.f64_or(config.first_of(&["layer_norm_eps", "norm_eps"]), 1e-5)?;
    set_norm(&mut spec, NormSpec::layer(eps));
    let bias = ProjectionBias::qkv(config.bool_or("use_qkv_bias", false)?);
    attentions(&mut spec).for_each(|(_, attention)| attention.bias = bias);
    if config.bool_or("use_parallel_residual", false)? {
        set_residual(&mut spec, Residual::Parallel { shared_norm: true });
    }
    if config.bool_or("qk_layernorm", false)? {
        let norm = NormSpec { kind: NormKind::LayerUnbiased, eps };
        attentions(&mut spec).for_each(|(_, attention)| attention.qk_norm = Some(QkNorm::EachHead(norm)));
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    let names = [
        (TensorRole::AttnQHeadNorm(0), "q_layernorm.norms.{expert}"),
        (TensorRole::AttnKHeadNorm(0), "k_layernorm.norms.{expert}"),
    ];
    modules(&mut map.stacks[0], "{prefix}layers.{layer}.self_attn.", &names);
    Ok(map)
}
