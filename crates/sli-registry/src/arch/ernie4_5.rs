//! ERNIE 4.5 (Baidu 2025), the dense models: Llama with rotations of neighbouring dimensions and a tied head.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::maps::unpair_llama;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "ernie4_5",
    family: Family::Llama,
    model_types: &["ernie4_5"],
    architectures: &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM", "Ernie4_5Model"],
    known_models: &[KnownModel::new("ERNIE-4.5-0.3B", "baidu/ERNIE-4.5-0.3B-PT", "tied head")],
    spec,
    weights,
};

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // The released code divides positions by it; every released model has 1.
    if config.f64_or("compression_ratio", 1.0)? != 1.0 {
        return Err(config.invalid("compression_ratio", "1: compressed positions are not supported"));
    }
    let bias = config.bool_or("use_bias", false)?;
    let defaults = json!({
        "head_dim": 128, "rms_norm_eps": 1e-5, "rope_theta": 5e5, "attention_bias": bias, "mlp_bias": bias
    });
    llama::spec(&config.with_defaults(defaults))
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    unpair_llama(&mut map.stacks[0], spec);
    Ok(map)
}
