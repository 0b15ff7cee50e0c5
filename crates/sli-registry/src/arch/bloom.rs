//! BLOOM (BigScience 2022): layer norms before each branch and after the embedding, ALiBi, biases everywhere, GELU in
//! its tanh form, a tied head.

use sli_core::{
    Activation, Alibi, AttentionSpec, BlockSpec, EmbeddingSpec, Family, Ffn, Mask, Mixer, MlpSpec, ModelSpec,
    NormSpec, PositionSpec, Residual, Result, StackKind, StackMap, StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{model, multi_head, plain_head, share_per_head};
use crate::config::HfConfig;
use crate::maps::{Fused, lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "bloom",
    family: Family::Bloom,
    model_types: &["bloom"],
    architectures: &["BloomForCausalLM", "BloomModel"],
    known_models: &[
        KnownModel::new("BLOOM-560M", "bigscience/bloom-560m", ""),
        KnownModel::new("BLOOM-3B", "bigscience/bloom-3b", ""),
        KnownModel::new("BLOOM-7B1", "bigscience/bloom-7b1", ""),
        KnownModel::new("BLOOM-176B", "bigscience/bloom", "112 heads: the slopes of 128, in part"),
        KnownModel::new("BLOOMZ-176B", "bigscience/bloomz", ""),
        KnownModel::new("BLOOMZ-7B1-mt", "bigscience/bloomz-7b1-mt", ""),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How the work is cut up, and names of an earlier format.
    config.ignore(&[
        "pretraining_tp",
        "slow_but_exact",
        "skip_bias_add",
        "skip_bias_add_qkv",
        "offset_alibi",
    ]);
    config.ignore(&[
        "attention_softmax_in_fp32",
        "bias_dropout_fusion",
        "masked_softmax_fusion",
        "seq_length",
    ]);
    config.ignore(&["unk_token_id", "n_inner"]);
    let hidden_size = config.usize(config.first_of(&["hidden_size", "n_embed"]))?;
    let vocab_size = config.usize("vocab_size")?;
    let num_heads = config.usize(config.first_of(&["n_head", "num_attention_heads"]))?;
    let norm = NormSpec::layer(config.f64_or("layer_norm_epsilon", 1e-5)?);
    let attention = AttentionSpec {
        position: PositionSpec::Alibi(Alibi::Standard),
        ..multi_head(num_heads, share_per_head(config, hidden_size, num_heads)?, Mask::Causal, true)
    };
    let from_norm = config.bool_or("apply_residual_connection_post_layernorm", false)?;
    let block = BlockSpec {
        mixer: Mixer::Attention(attention),
        cross_attention: None,
        ffn: Some(Ffn::Mlp(MlpSpec {
            intermediate_size: 4 * hidden_size,
            activation: Activation::GeluTanh,
            bias: true,
        })),
        residual: if from_norm { Residual::from_norm(1.0) } else { Residual::PreNorm },
        norm,
    };
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: EmbeddingSpec { norm: Some(norm), ..EmbeddingSpec::tokens(vocab_size) },
        layers: vec![block; config.layers(config.first_of(&["n_layer", "num_hidden_layers"]))?],
        final_norm: Some(norm),
    };
    Ok(model(vec![stack], plain_head(config, vocab_size), None))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    let names = [
        (TokenEmbedding, "word_embeddings"),
        (EmbeddingNorm, "word_embeddings_layernorm"),
        (FinalNorm, "ln_f"),
    ];
    modules(&mut stack, "{prefix}", &names);
    let names = [
        (MixerNorm, "input_layernorm"),
        (AttnOut, "self_attention.dense"),
        (FfnNorm, "post_attention_layernorm"),
        (MlpUp, "mlp.dense_h_to_4h"),
        (MlpDown, "mlp.dense_4h_to_h"),
    ];
    modules(&mut stack, "{prefix}h.{layer}.", &names);
    if let Mixer::Attention(attention) = &spec.stacks[0].layers[0].mixer {
        let (groups, rows) = (attention.num_heads, attention.head_dim);
        Fused { groups, ..Fused::new("{prefix}h.{layer}.self_attention.query_key_value") }
            .split(&mut stack, &[(AttnQ, rows), (AttnK, rows), (AttnV, rows)]);
    }
    let mut map =
        WeightMap { prefixes: vec!["transformer.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}word_embeddings.weight"], "lm_head.weight");
    map.ignored.push("score.*".into());
    Ok(map)
}
