//! InternLM2 (Cai et al. 2024): Llama under other names. Queries, keys and values are one matrix, in which the
//! queries of a key head stand before that key and its value.

use sli_core::{Family, Mixer, ModelSpec, Result, StackMap, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::maps::{Fused, lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "internlm2",
    family: Family::Llama,
    model_types: &["internlm2"],
    architectures: &["InternLM2ForCausalLM", "InternLM2Model"],
    known_models: &[KnownModel::new("InternLM2-20B", "internlm/internlm2-20b", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let bias = config.bool_or("bias", true)?;
    llama::spec(&config.with_defaults(serde_json::json!({ "attention_bias": bias })))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    stack.module(TokenEmbedding, "{prefix}tok_embeddings").module(FinalNorm, "{prefix}norm");
    let names = [
        (MixerNorm, "attention_norm"),
        (AttnOut, "attention.wo"),
        (FfnNorm, "ffn_norm"),
        (MlpGate, "feed_forward.w1"),
        (MlpUp, "feed_forward.w3"),
        (MlpDown, "feed_forward.w2"),
    ];
    modules(&mut stack, "{prefix}layers.{layer}.", &names);
    if let Mixer::Attention(attention) = &spec.stacks[0].layers[0].mixer {
        let (groups, head_dim) = (attention.num_kv_heads, attention.head_dim);
        let queries = attention.num_heads / groups * head_dim;
        let parts = [(AttnQ, queries), (AttnK, head_dim), (AttnV, head_dim)];
        Fused { groups, ..Fused::new("{prefix}layers.{layer}.attention.wqkv") }.split(&mut stack, &parts);
    }
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    lm_head(&mut map, tied, &["{prefix}tok_embeddings.weight"], "output.weight");
    Ok(map)
}
