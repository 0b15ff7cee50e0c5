//! Qwen2 (Yang et al. 2024), also of Qwen1.5 and Qwen2.5: Llama with biases on queries, keys and values. With
//! `use_sliding_window`, the layers from `max_window_layers` on see a window only.

use serde_json::json;
use sli_core::{Family, Mask, ModelSpec, ProjectionBias, Result};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "qwen2",
    family: Family::Qwen,
    model_types: &["qwen2"],
    architectures: &["Qwen2ForCausalLM", "Qwen2Model"],
    known_models: &[
        KnownModel::new("Qwen1.5-110B", "Qwen/Qwen1.5-110B", ""),
        KnownModel::new("Qwen2-72B", "Qwen/Qwen2-72B", "8 key heads"),
        KnownModel::new("Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B", "tied head"),
        KnownModel::new("Qwen2.5-72B", "Qwen/Qwen2.5-72B", "8 key heads"),
        KnownModel::new("QwQ-32B", "Qwen/QwQ-32B", ""),
    ],
    spec,
    weights: llama::weights,
};

pub(crate) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Rotation by time, height and width, which are all the position in a text.
    config.ignore(&["use_mrope"]);
    let mut spec = llama::spec(config)?;
    let windows = windows(config, spec.num_layers())?;
    for (layer, attention) in attentions(&mut spec) {
        attention.bias = ProjectionBias::qkv(true);
        attention.mask = windows[layer];
    }
    Ok(spec)
}

/// What each layer sees, by the rules of all Qwen2 and Qwen3 models: `layer_types` says it, or, in configs without,
/// all layers from `max_window_layers` on have the window.
pub(crate) fn windows(config: &HfConfig, num_layers: usize) -> Result<Vec<Mask>> {
    const DEFAULT_WINDOW: usize = 4096;
    const DEFAULT_MAX_WINDOW_LAYERS: usize = 28;
    let used = config.bool_or("use_sliding_window", false)?;
    let first = config.count_or("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS)?;
    let config = &config.with_defaults(json!({ "sliding_window": DEFAULT_WINDOW }));
    // A window of 0 is none.
    let window = if config.has("sliding_window") { config.count_or("sliding_window", 0)? } else { 0 };
    let window = Some(window).filter(|window| used && *window > 0);
    let mask = |sliding: bool| match (sliding, window) {
        (true, Some(window)) => Mask::Sliding { window },
        _ => Mask::Causal,
    };
    let Some(types) = config.strs("layer_types")? else {
        return Ok((0..num_layers).map(|layer| mask(layer >= first)).collect());
    };
    if types.len() != num_layers {
        let message = format!("'layer_types' has {} entries for {num_layers} layers", types.len());
        return Err(config.error(message));
    }
    let masks = types.iter().map(|kind| match kind.as_str() {
        "full_attention" => Ok(Mask::Causal),
        "sliding_attention" if window.is_some() => Ok(mask(true)),
        "sliding_attention" => {
            Err(config.error("'layer_types' names sliding_attention, but no sliding_window is in use"))
        }
        _ => Err(config.invalid("layer_types", "full_attention or sliding_attention for each layer")),
    });
    masks.collect()
}
