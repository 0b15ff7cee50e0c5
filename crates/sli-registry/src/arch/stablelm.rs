//! StableLM 2 and StableLM 3B (Stability AI 2023): Llama with layer norms, a quarter of each head rotated, and
//! perhaps biases on queries, keys and values.

use serde_json::json;
use sli_core::{Family, ModelSpec, NormSpec, ProjectionBias, Result};

use super::llama;
use crate::architecture::Architecture;
use crate::blocks::{attentions, require, set_norm};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "stablelm",
    family: Family::Llama,
    model_types: &["stablelm", "stablelm_epoch"],
    architectures: &["StableLmForCausalLM", "StableLMEpochForCausalLM", "StableLmModel"],
    known_models: &[],
    spec,
    weights: llama::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    require(config, "use_parallel_residual", false)?;
    require(config, "qk_layernorm", false)?;
    let share = config.f64_or(config.first_of(&["rope_pct", "partial_rotary_factor"]), 0.25)?;
    let mut spec = llama::spec(&config.with_defaults(json!({ "partial_rotary_factor": share })))?;
    let eps = config.f64_or(config.first_of(&["layer_norm_eps", "norm_eps"]), 1e-5)?;
    set_norm(&mut spec, NormSpec::layer(eps));
    let bias = ProjectionBias::qkv(config.bool_or("use_qkv_bias", false)?);
    attentions(&mut spec).for_each(|(_, attention)| attention.bias = bias);
    Ok(spec)
}
