//! mBART (Liu et al. 2020): BART with layer norms before each branch, and one at the end of each stack besides that of
//! the embedding.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result};

use super::bart;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{norm_before, require};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "mbart",
    family: Family::T5,
    model_types: &["mbart"],
    architectures: &["MBartForConditionalGeneration", "MBartModel"],
    known_models: &[KnownModel::new("mBART-50", "facebook/mbart-large-50", "610M parameters")],
    spec,
    weights: bart::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    for key in ["normalize_before", "add_final_layer_norm", "normalize_embedding"] {
        require(config, key, true)?;
    }
    require(config, "static_position_embeddings", false)?;
    let mut spec = bart::encoder_decoder(&class_defaults(config))?;
    let norms: Vec<_> = spec.stacks.iter().map(|stack| stack.embedding.norm).collect();
    norm_before(&mut spec);
    for (stack, norm) in spec.stacks.iter_mut().zip(norms) {
        stack.embedding.norm = norm;
    }
    Ok(spec)
}

/// The sizes of the classes of mBART and M2M-100.
pub(super) fn class_defaults(config: &HfConfig) -> HfConfig {
    config.with_defaults(json!({
        "d_model": 1024, "max_position_embeddings": 1024,
        "encoder_layers": 12, "encoder_ffn_dim": 4096, "encoder_attention_heads": 16,
        "decoder_layers": 12, "decoder_ffn_dim": 4096, "decoder_attention_heads": 16
    }))
}
