//! Gemma 2 (Gemma Team 2024): Gemma with norms before and after each branch, capped scores and logits, a scale of its
//! own for queries, and a sliding window in every other layer.

use serde_json::json;
use sli_core::{Family, ModelSpec, Residual, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, require, scale_embedding_by_root, set_residual};
use crate::config::HfConfig;
use crate::maps::norms_from_one;
use crate::windows::{all_but_every, slide_some};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gemma2",
    family: Family::Gemma,
    model_types: &["gemma2"],
    architectures: &["Gemma2ForCausalLM", "Gemma2Model"],
    known_models: &[
        KnownModel::new("Gemma-2-9B", "google/gemma-2-9b", "windows of 4096"),
        KnownModel::new("Gemma-2-27B", "google/gemma-2-27b", "queries scaled by 144^-0.5"),
    ],
    spec,
    weights,
};

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    require(config, "use_bidirectional_attention", false)?;
    let defaults =
        json!({ "sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0 });
    let config = &config.with_defaults(defaults);
    let mut spec = llama::spec(&names_of_llama(config)?)?;
    scale_embedding_by_root(&mut spec);
    set_residual(&mut spec, Residual::Sandwich);
    scale_and_cap(&mut spec, config)?;
    slide_some(&mut spec, config, all_but_every(2))?;
    Ok(spec)
}

/// A config in which what this family calls otherwise has Llama's names, and its defaults.
pub(super) fn names_of_llama(config: &HfConfig) -> Result<HfConfig> {
    // Second names of the activation and of the window.
    config.ignore(&["hidden_act", "sliding_window_size"]);
    let activation = config.str_or("hidden_activation", "gelu_pytorch_tanh")?;
    Ok(config.with(json!({ "hidden_act": activation })).with_defaults(json!({ "head_dim": 256 })))
}

/// The scale of queries, and the caps of scores and logits.
pub(super) fn scale_and_cap(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let scale = config.f64_or("query_pre_attn_scalar", 256.0)?.powf(-0.5);
    let softcap = config.optional_f64("attn_logit_softcapping")?;
    for (_, attention) in attentions(spec) {
        (attention.scale, attention.softcap) = (scale, softcap);
    }
    let softcap = config.optional_f64("final_logit_softcapping")?;
    if let Some(head) = &mut spec.head {
        head.softcap = softcap;
    }
    Ok(())
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnNorm, FfnOutNorm, FinalNorm, MixerNorm, MixerOutNorm};
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    let names = [
        (MixerNorm, "layers.{layer}.input_layernorm"),
        (MixerOutNorm, "layers.{layer}.post_attention_layernorm"),
        (FfnNorm, "layers.{layer}.pre_feedforward_layernorm"),
        (FfnOutNorm, "layers.{layer}.post_feedforward_layernorm"),
        (FinalNorm, "norm"),
    ];
    norms_from_one(&mut map.stacks[0], "{prefix}", &names);
    Ok(map)
}
