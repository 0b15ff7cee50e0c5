//! Seed-OSS (ByteDance Seed 2025): Llama with biases on queries, keys and values.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "seed_oss",
    family: Family::Llama,
    model_types: &["seed_oss"],
    architectures: &["SeedOssForCausalLM", "SeedOssModel"],
    known_models: &[KnownModel::new("Seed-OSS-36B", "ByteDance-Seed/Seed-OSS-36B-Base", "")],
    spec,
    weights: llama::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &config.with_defaults(json!({ "attention_bias": true, "head_dim": 128 }));
    let mut spec = llama::spec(config)?;
    let output = config.bool_or("attention_out_bias", false)?;
    attentions(&mut spec).for_each(|(_, attention)| attention.bias.output = output);
    Ok(spec)
}
