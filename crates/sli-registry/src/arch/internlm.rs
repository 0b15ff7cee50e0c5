//! InternLM (InternLM Team 2023), the first version: Llama with biases on the four projections of attention. A
//! section `rotary` describes the rotation.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result};

use super::llama;
use crate::architecture::Architecture;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "internlm",
    family: Family::Llama,
    model_types: &["internlm"],
    architectures: &["InternLMForCausalLM", "InternLMModel"],
    known_models: &[],
    spec,
    weights: llama::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut config = config.with_defaults(json!({ "attention_bias": config.bool_or("bias", true)? }));
    if let Some(rotary) = config.section("rotary")? {
        let scaling = match rotary.str_or("type", "origin")? {
            "origin" => json!(null),
            "dynamic" => json!({ "type": "dynamic", "factor": 1.0 }),
            _ => return Err(rotary.invalid("type", "origin or dynamic")),
        };
        let base = rotary.f64_or("base", 10_000.0)?;
        config = config.with_defaults(json!({ "rope_theta": base, "rope_scaling": scaling }));
    }
    llama::spec(&config)
}
