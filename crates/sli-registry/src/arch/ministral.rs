//! Ministral (Mistral AI 2024): Mistral in which `layer_types` says which layers have the window.

use sli_core::{Family, Mask, ModelSpec, Result};

use super::llama;
use crate::architecture::Architecture;
use crate::blocks::{attentions, slide};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "ministral",
    family: Family::Llama,
    model_types: &["ministral"],
    architectures: &["MinistralForCausalLM", "MinistralModel"],
    known_models: &[],
    spec,
    weights: llama::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(config)?;
    slide(&mut spec, config)?;
    let Some(types) = config.strs("layer_types")? else { return Ok(spec) };
    if types.len() != spec.num_layers() {
        return Err(config.invalid("layer_types", "a type for each layer"));
    }
    for (layer, attention) in attentions(&mut spec) {
        match types[layer].as_str() {
            "sliding_attention" => {}
            "full_attention" => attention.mask = Mask::Causal,
            _ => {
                return Err(
                    config.invalid("layer_types", "full_attention or sliding_attention for each layer")
                );
            }
        }
    }
    Ok(spec)
}
