//! Falcon (Almazrouei et al. 2023): layer norms, an MLP without gate, no biases, a tied head. The 7B model has one key
//! head and both branches behind one norm; the larger ones ("new decoder architecture") groups of heads and perhaps a
//! norm for each branch; the first one (RefinedWeb) ALiBi, biases, and its branches in turn.

use serde_json::json;
use sli_core::{
    Alibi, Family, Mixer, ModelSpec, NormSpec, PositionSpec, ProjectionBias, Residual, Result, StackMap,
    TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, remove_gates, require, set_mlp_bias, set_norm, set_residual};
use crate::config::HfConfig;
use crate::maps::{Fused, lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "falcon",
    family: Family::Gpt,
    model_types: &["falcon", "RefinedWeb", "RefinedWebModel"],
    architectures: &["FalconForCausalLM", "FalconModel", "RWForCausalLM", "RWModel"],
    known_models: &[
        KnownModel::new("Falcon-RW-1B", "tiiuae/falcon-rw-1b", "ALiBi"),
        KnownModel::new("Falcon-7B", "tiiuae/falcon-7b", "one key head"),
        KnownModel::new("Falcon-11B", "tiiuae/falcon-11B", "8 key heads, one norm"),
        KnownModel::new("Falcon-40B", "tiiuae/falcon-40b", "8 key heads, two norms"),
        KnownModel::new("Falcon-180B", "tiiuae/falcon-180B", "8 key heads, two norms"),
    ],
    spec,
    weights,
};

/// Has the model groups of heads? Earlier configs say so by the number of groups alone.
fn is_new(config: &HfConfig) -> Result<bool> {
    config.bool_or("new_decoder_architecture", config.has("n_head_kv"))
}

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // A second name of the width of the MLP, by its ratio to the model's.
    config.ignore(&["ff_factor"]);
    require(config, "apply_residual_connection_post_layernorm", false)?;
    let num_heads = config.usize(config.first_of(&["num_attention_heads", "n_head"]))?;
    let hidden_size = config.usize(config.first_of(&["hidden_size", "n_embed"]))?;
    let stated = config.usize_or(config.first_of(&["num_kv_heads", "n_head_kv"]), num_heads)?;
    let num_kv_heads = match (is_new(config)?, config.bool_or("multi_query", true)?) {
        (true, _) => stated,
        (false, true) => 1,
        (false, false) => num_heads,
    };
    let inner = config.optional_usize("ffn_hidden_size")?.unwrap_or(4 * hidden_size);
    let renamed = json!({
        "hidden_size": hidden_size,
        "num_hidden_layers": config.layers(config.first_of(&["num_hidden_layers", "n_layer"]))?,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_kv_heads,
        "intermediate_size": inner,
        "hidden_act": config.str_or("activation", "gelu")?,
        "max_position_embeddings": config.usize_or("max_position_embeddings", 2048)?,
    });
    let mut spec = llama::spec(&config.with(renamed))?;
    let bias = config.bool_or("bias", false)?;
    remove_gates(&mut spec);
    set_mlp_bias(&mut spec, bias);
    set_norm(&mut spec, NormSpec::layer(config.f64_or("layer_norm_epsilon", 1e-5)?));
    set_residual(&mut spec, residual(config)?);
    let alibi = config.bool_or("alibi", false)?;
    for (_, attention) in attentions(&mut spec) {
        attention.bias = ProjectionBias::all(bias);
        if alibi {
            attention.position = PositionSpec::Alibi(Alibi::Rounded);
        }
    }
    if alibi {
        spec.max_length = None;
    }
    Ok(spec)
}

fn residual(config: &HfConfig) -> Result<Residual> {
    let new = is_new(config)?;
    let num_norms = config.usize_or("num_ln_in_parallel_attn", if new { 2 } else { 1 })?;
    match (config.bool_or("parallel_attn", true)?, num_norms) {
        (false, _) if new => Err(config.invalid("parallel_attn", "true in the new decoder architecture")),
        (false, _) => Ok(Residual::PreNorm),
        (true, 1) => Ok(Residual::Parallel { shared_norm: true }),
        (true, 2) if new => Ok(Residual::Parallel { shared_norm: false }),
        (true, _) => {
            Err(config.invalid("num_ln_in_parallel_attn", "1, or 2 in the new decoder architecture"))
        }
    }
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    modules(&mut stack, "{prefix}", &[(TokenEmbedding, "word_embeddings"), (FinalNorm, "ln_f")]);
    let block = &spec.stacks[0].layers[0];
    let (mixer_norm, ffn_norm) = match block.residual {
        Residual::Parallel { shared_norm: false } => ("ln_attn", "ln_mlp"),
        _ => ("input_layernorm", "post_attention_layernorm"),
    };
    let names = [
        (MixerNorm, mixer_norm),
        (AttnOut, "self_attention.dense"),
        (FfnNorm, ffn_norm),
        (MlpUp, "mlp.dense_h_to_4h"),
        (MlpDown, "mlp.dense_4h_to_h"),
    ];
    modules(&mut stack, "{prefix}h.{layer}.", &names);
    if let Mixer::Attention(attention) = &block.mixer {
        // The queries of a group, its key and its value; with one key head that is all queries, the key, the value.
        let (groups, rows) = (attention.num_kv_heads, attention.head_dim);
        let queries = attention.num_heads / groups * rows;
        Fused { groups, ..Fused::new("{prefix}h.{layer}.self_attention.query_key_value") }
            .split(&mut stack, &[(AttnQ, queries), (AttnK, rows), (AttnV, rows)]);
    }
    let mut map =
        WeightMap { prefixes: vec!["transformer.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}word_embeddings.weight"], "lm_head.weight");
    map.ignored.push("{prefix}h.{layer}.self_attention.rotary.inv_freq".into());
    map.ignored.push("score.*".into());
    Ok(map)
}
