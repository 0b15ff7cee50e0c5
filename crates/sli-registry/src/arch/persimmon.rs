//! Persimmon (Adept 2023): layer norms and biases everywhere, a squared ReLU in an MLP without gate, half of each
//! head rotated, and a layer norm on each head of queries and keys.

use serde_json::json;
use sli_core::{
    Family, Mixer, ModelSpec, NormSpec, ProjectionBias, QkNorm, Result, StackMap, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, remove_gates, set_mlp_bias, set_norm};
use crate::config::HfConfig;
use crate::maps::{Fused, lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "persimmon",
    family: Family::Gpt,
    model_types: &["persimmon"],
    architectures: &["PersimmonForCausalLM", "PersimmonModel"],
    known_models: &[KnownModel::new("Persimmon-8B", "adept/persimmon-8b-base", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let defaults = json!({ "hidden_act": "relu2", "partial_rotary_factor": 0.5 });
    let mut spec = llama::spec(&config.with_defaults(defaults))?;
    let norm = NormSpec::layer(config.f64_or("layer_norm_eps", 1e-5)?);
    remove_gates(&mut spec);
    set_mlp_bias(&mut spec, true);
    set_norm(&mut spec, norm);
    let heads_normed = config.bool_or("qk_layernorm", true)?;
    for (_, attention) in attentions(&mut spec) {
        attention.bias = ProjectionBias::all(true);
        attention.qk_norm = heads_normed.then_some(QkNorm::PerHead(norm));
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    stack.module(TokenEmbedding, "{prefix}embed_tokens").module(FinalNorm, "{prefix}final_layernorm");
    let names = [
        (MixerNorm, "input_layernorm"),
        (AttnQNorm, "self_attn.q_layernorm"),
        (AttnKNorm, "self_attn.k_layernorm"),
        (AttnOut, "self_attn.dense"),
        (FfnNorm, "post_attention_layernorm"),
        (MlpUp, "mlp.dense_h_to_4h"),
        (MlpDown, "mlp.dense_4h_to_h"),
    ];
    modules(&mut stack, "{prefix}layers.{layer}.", &names);
    if let Mixer::Attention(attention) = &spec.stacks[0].layers[0].mixer {
        let (groups, rows) = (attention.num_heads, attention.head_dim);
        Fused { groups, ..Fused::new("{prefix}layers.{layer}.self_attn.query_key_value") }
            .split(&mut stack, &[(AttnQ, rows), (AttnK, rows), (AttnV, rows)]);
    }
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    lm_head(&mut map, tied, &["{prefix}embed_tokens.weight"], "lm_head.weight");
    map.ignored.push("{prefix}layers.{layer}.self_attn.rotary_emb.inv_freq".into());
    Ok(map)
}
