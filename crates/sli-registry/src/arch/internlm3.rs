//! InternLM3 (InternLM Team 2025): Llama in which `qkv_bias` gives a bias to queries, keys and values and `bias` to
//! the other projections. Transformers calls the two `attention_bias` and `mlp_bias`.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "internlm3",
    family: Family::Llama,
    model_types: &["internlm3"],
    architectures: &["InternLM3ForCausalLM", "InternLM3Model"],
    known_models: &[KnownModel::new(
        "InternLM3-8B",
        "internlm/internlm3-8b-instruct",
        "dynamic rotary scaling",
    )],
    spec,
    weights: llama::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let of_queries = config.bool_or(config.first_of(&["qkv_bias", "attention_bias"]), false)?;
    let of_others = config.bool_or(config.first_of(&["bias", "mlp_bias"]), false)?;
    let config = config.with_defaults(json!({ "attention_bias": of_queries, "mlp_bias": of_others }));
    let mut spec = llama::spec(&config)?;
    attentions(&mut spec).for_each(|(_, attention)| attention.bias.output = of_others);
    Ok(spec)
}
