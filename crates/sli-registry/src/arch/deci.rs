//! DeciLM (Deci 2023): Llama whose layers have different numbers of key heads.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "deci",
    family: Family::Llama,
    model_types: &["deci"],
    architectures: &["DeciLMForCausalLM", "DeciLMModel"],
    known_models: &[KnownModel::new("DeciLM-7B", "Deci/DeciLM-7B", "1 to 4 key heads")],
    spec,
    weights: llama::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    const KEY: &str = "num_key_value_heads_per_layer";
    // Set so that the name of another model's key does not stand for all layers.
    let mut spec = llama::spec(&config.with(json!({ "num_key_value_heads": null })))?;
    let kv_heads = config.usizes(KEY)?.filter(|heads| heads.len() == spec.num_layers());
    let kv_heads = kv_heads.ok_or_else(|| config.invalid(KEY, "a number for each layer"))?;
    attentions(&mut spec).for_each(|(layer, attention)| attention.num_kv_heads = kv_heads[layer]);
    Ok(spec)
}
