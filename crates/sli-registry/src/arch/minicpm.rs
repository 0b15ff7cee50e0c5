//! MiniCPM (Hu et al. 2024): Llama with a scaled embedding, branches scaled by the depth, and logits by the width.

use serde_json::json;
use sli_core::{Family, ModelSpec, Residual, Result, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::set_residual;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "minicpm",
    family: Family::Llama,
    model_types: &["minicpm"],
    architectures: &["MiniCPMForCausalLM", "MiniCPMModel"],
    known_models: &[
        KnownModel::new("MiniCPM-2B", "openbmb/MiniCPM-2B-sft-bf16", ""),
        KnownModel::new("MiniCPM4-8B", "openbmb/MiniCPM4-8B", "longrope"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    if config.usize_or("num_experts", 1)? > 1 {
        return Err(config.invalid("num_experts", "1: MiniCPM-MoE is not supported"));
    }
    if config.has("sparse_config") {
        return Err(config.invalid("sparse_config", "nothing: sparse attention is not supported"));
    }
    let mut spec = llama::spec(config)?;
    scale_by_depth_and_width(&mut spec, config)?;
    Ok(spec)
}

/// Scales of the embedding, the branches and the logits, which let one choice of hyperparameters serve all sizes.
pub(super) fn scale_by_depth_and_width(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    spec.stacks[0].embedding.scale = Some(config.f64_or("scale_emb", 1.0)?);
    let scale = config.f64_or("scale_depth", 1.0)? / (spec.num_layers() as f64).sqrt();
    set_residual(spec, Residual::ScaledPreNorm { scale });
    let width = spec.stacks[0].hidden_size as f64;
    let scale = config.f64_or("dim_model_base", 1.0)? / width;
    if let Some(head) = &mut spec.head {
        head.scale = Some(scale);
    }
    Ok(())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)
}
