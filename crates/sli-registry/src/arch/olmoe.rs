//! OLMoE (Muennighoff et al. 2024): Llama with norms of whole queries and keys, and experts in every layer.

use serde_json::json;
use sli_core::{Family, ModelSpec, QkNorm, Result};

use super::{llama, qwen3_moe};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::experts::softmax_experts;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "olmoe",
    family: Family::Moe,
    model_types: &["olmoe"],
    architectures: &["OlmoeForCausalLM", "OlmoeModel"],
    known_models: &[KnownModel::new("OLMoE-1B-7B", "allenai/OLMoE-1B-7B-0924", "8 of 64 experts")],
    spec,
    weights: qwen3_moe::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(&config.with_defaults(json!({ "rms_norm_eps": 1e-5 })))?;
    let norm = spec.stacks[0].layers[0].norm;
    let clip = config.optional_f64("clip_qkv")?;
    for (_, attention) in attentions(&mut spec) {
        (attention.qk_norm, attention.clip) = (Some(QkNorm::Whole(norm)), clip);
    }
    softmax_experts(&mut spec, config)?;
    Ok(spec)
}
