//! Gemma 3 with its tower for pictures (Gemma Team 2025), of which the language model is run, on text.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::gemma3;
use super::multimodal::{text, with_head, within};
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gemma3_multimodal",
    family: Family::Gemma,
    model_types: &["gemma3"],
    architectures: &["Gemma3ForConditionalGeneration"],
    known_models: &[
        KnownModel::new("Gemma-3-4B", "google/gemma-3-4b-it", "text only"),
        KnownModel::new("Gemma-3-12B", "google/gemma-3-12b-it", "text only"),
        KnownModel::new("Gemma-3-27B", "google/gemma-3-27b-it", "text only"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    config.ignore(&["mm_tokens_per_image", "boi_token_index", "eoi_token_index"]);
    // The released sections leave out what is as in the class's defaults.
    let defaults = json!({
        "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 131_072
    });
    with_head(gemma3::spec(&text(config)?.with_defaults(defaults))?)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    const TOWERS: &[&str] = &[
        "vision_tower.*",
        "multi_modal_projector.*",
        "model.vision_tower.*",
        "model.multi_modal_projector.*",
    ];
    let tied = config.with_defaults(json!({ "tie_word_embeddings": true }));
    within(&tied, &gemma3::ARCHITECTURE, spec, TOWERS)
}
