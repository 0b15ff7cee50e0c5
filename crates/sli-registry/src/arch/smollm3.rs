//! SmolLM3 (Hugging Face 2025): Llama in which every fourth layer has no positions, and a tied head.

use serde_json::json;
use sli_core::{Family, Mask, ModelSpec, PositionSpec, Result, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "smollm3",
    family: Family::Llama,
    model_types: &["smollm3"],
    architectures: &["SmolLM3ForCausalLM", "SmolLM3Model"],
    known_models: &[KnownModel::new("SmolLM3-3B", "HuggingFaceTB/SmolLM3-3B", "tied head")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // `layer_types` repeats what no_rope_layers and use_sliding_window say.
    config.ignore(&["layer_types", "max_window_layers"]);
    let mut spec = llama::spec(&config.with_defaults(json!({ "rope_theta": 2e6 })))?;
    let num_layers = spec.num_layers();
    let interval = config.usize_or("no_rope_layer_interval", 4)?;
    let every_fourth =
        || (1..=num_layers).map(|layer| usize::from(!layer.is_multiple_of(interval))).collect();
    let rotated: Vec<usize> = config.usizes("no_rope_layers")?.unwrap_or_else(every_fourth);
    if rotated.len() != num_layers {
        return Err(config.invalid("no_rope_layers", "a number for each layer"));
    }
    let windows_used = config.bool_or("use_sliding_window", false)?;
    let window = config.optional_usize("sliding_window")?.filter(|_| windows_used);
    for (_, attention) in attentions(&mut spec).filter(|(layer, _)| rotated[*layer] == 0) {
        attention.position = PositionSpec::None;
        attention.mask = window.map_or(Mask::Causal, |window| Mask::Sliding { window });
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)
}
