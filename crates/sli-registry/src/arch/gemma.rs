//! Gemma (Gemma Team 2024): Llama with a scaled embedding, norms that store the offset from one, GELU in its tanh
//! form, wide heads, and a tied head.

use serde_json::json;
use sli_core::{Activation, Family, Ffn, ModelSpec, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, require, scale_embedding_by_root};
use crate::config::HfConfig;
use crate::maps::offset_from_one;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gemma",
    family: Family::Gemma,
    model_types: &["gemma"],
    architectures: &["GemmaForCausalLM", "GemmaModel"],
    known_models: &[
        KnownModel::new("Gemma-1-2B", "google/gemma-2b", "one key head"),
        KnownModel::new("Gemma-1-7B", "google/gemma-7b", "heads of 256"),
        KnownModel::new("CodeGemma-7B", "google/codegemma-7b", ""),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    require(config, "use_bidirectional_attention", false)?;
    // Where both are given this one is meant.
    let key = config.first_of(&["hidden_activation", "hidden_act"]);
    config.ignore(&["hidden_act"]);
    let name = config.str_or(key, "gelu_pytorch_tanh")?;
    let defaults = json!({ "head_dim": 256 });
    let mut spec = llama::spec(&config.with(json!({ "hidden_act": name })).with_defaults(defaults))?;
    // The first releases say "gelu" and mean its tanh form.
    for (_, block) in layers(&mut spec) {
        if let Some(Ffn::GatedMlp(mlp)) = &mut block.ffn
            && mlp.activation == Activation::Gelu
        {
            mlp.activation = Activation::GeluTanh;
        }
    }
    scale_embedding_by_root(&mut spec);
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnNorm, FinalNorm, MixerNorm};
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    offset_from_one(&mut map.stacks[0], &[MixerNorm, FfnNorm, FinalNorm]);
    Ok(map)
}
