//! FlexOlmo (Shi et al. 2025): OLMo 2 with experts that were trained apart.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::{llama, olmo2};
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::experts::{per_expert, softmax_experts};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "flex_olmo",
    family: Family::Moe,
    model_types: &["flex_olmo"],
    architectures: &["FlexOlmoForCausalLM", "FlexOlmoModel"],
    known_models: &[KnownModel::new("FlexOlmo-7x7B", "allenai/FlexOlmo-7x7B-1T", "5 of 7 experts")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(&config.with_defaults(json!({ "rms_norm_eps": 1e-6, "rope_theta": 5e5 })))?;
    olmo2::norm_projections_and_branches(&mut spec);
    softmax_experts(&mut spec, config)?;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = olmo2::weights(config, spec)?;
    let names = ["gate_proj", "up_proj", "down_proj"];
    per_expert(&mut map.stacks[0], "{prefix}layers.{layer}.mlp.", "gate", names);
    Ok(map)
}
