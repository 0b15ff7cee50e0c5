//! GPT-NeoX (Black et al. 2022) and Pythia: Llama with layer norms and biases everywhere, an MLP without gate, a part
//! of each head rotated, and both branches side by side, each behind a norm of its own.

use serde_json::json;
use sli_core::{
    Family, Mixer, ModelSpec, NormSpec, ProjectionBias, Residual, Result, StackMap, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, remove_gates, set_mlp_bias, set_norm, set_residual};
use crate::config::HfConfig;
use crate::maps::{Fused, lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gpt_neox",
    family: Family::Gpt,
    model_types: &["gpt_neox"],
    architectures: &["GPTNeoXForCausalLM", "GPTNeoXModel"],
    known_models: &[
        KnownModel::new("GPT-NeoX-20B", "EleutherAI/gpt-neox-20b", ""),
        KnownModel::new("Pythia-12B", "EleutherAI/pythia-12b", ""),
        KnownModel::new("Dolly-v2-12B", "databricks/dolly-v2-12b", ""),
        KnownModel::new(
            "RedPajama-INCITE-7B",
            "togethercomputer/RedPajama-INCITE-7B-Base",
            "branches in turn",
        ),
        KnownModel::new("StableLM-Alpha-7B", "stabilityai/stablelm-base-alpha-7b", ""),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(&names_of_llama(config, 0.25)?)?;
    let bias = config.bool_or("attention_bias", true)?;
    remove_gates(&mut spec);
    set_mlp_bias(&mut spec, true);
    set_norm(&mut spec, NormSpec::layer(config.f64_or("layer_norm_eps", 1e-5)?));
    attentions(&mut spec).for_each(|(_, attention)| attention.bias = ProjectionBias::all(bias));
    if config.bool_or("use_parallel_residual", true)? {
        set_residual(&mut spec, Residual::Parallel { shared_norm: false });
    }
    Ok(spec)
}

/// A config in which the rotation has Llama's names; `share` is the default of the part of each head that is rotated.
pub(super) fn names_of_llama(config: &HfConfig, share: f64) -> Result<HfConfig> {
    // It is one, whatever this says.
    config.ignore(&["is_decoder"]);
    Ok(config.with_defaults(json!({
        "hidden_act": "gelu",
        "rope_theta": config.f64_or("rotary_emb_base", 10_000.0)?,
        "partial_rotary_factor": config.f64_or("rotary_pct", share)?,
    })))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let tied = config.bool_or("tie_word_embeddings", false)?;
    Ok(map(spec, &["gpt_neox.", ""], tied))
}

/// The names under one of these prefixes.
pub(super) fn map(spec: &ModelSpec, prefixes: &[&'static str], tied: bool) -> WeightMap {
    use TensorRole::*;
    let mut stack = StackMap::default();
    modules(&mut stack, "{prefix}", &[(TokenEmbedding, "embed_in"), (FinalNorm, "final_layer_norm")]);
    let names = [
        (MixerNorm, "input_layernorm"),
        (AttnOut, "attention.dense"),
        (FfnNorm, "post_attention_layernorm"),
        (MlpUp, "mlp.dense_h_to_4h"),
        (MlpDown, "mlp.dense_4h_to_h"),
    ];
    modules(&mut stack, "{prefix}layers.{layer}.", &names);
    if let Mixer::Attention(attention) = &spec.stacks[0].layers[0].mixer {
        let (groups, rows) = (attention.num_heads, attention.head_dim);
        Fused { groups, ..Fused::new("{prefix}layers.{layer}.attention.query_key_value") }
            .split(&mut stack, &[(AttnQ, rows), (AttnK, rows), (AttnV, rows)]);
    }
    let mut map = WeightMap { prefixes: prefixes.to_vec(), stacks: vec![stack], ..WeightMap::default() };
    lm_head(&mut map, tied, &["{prefix}embed_in.weight"], "embed_out.weight");
    // Causal masks and tables that old checkpoints carry.
    let unused = [
        "{prefix}layers.{layer}.attention.bias",
        "{prefix}layers.{layer}.attention.masked_bias",
        "{prefix}layers.{layer}.attention.rotary_emb.inv_freq",
    ];
    map.ignored.extend(unused.map(String::from));
    map
}
