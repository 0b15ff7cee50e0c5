//! ChatGLM-6B (Zeng et al. 2022, Du et al. 2021), the first version: a prompt seen as a whole and an answer that fills
//! its blank, two rotations per head (by the place in the text and by the place in the answer), layer norms whose
//! output, scaled, is the residual, a plain MLP with the tanh form of GELU, and biases everywhere.

use sli_core::{
    Activation, AttentionSpec, BlockSpec, Ffn, HeadSpec, LoadOp, Mask, Mixer, MlpSpec, ModelSpec, NormSpec,
    PositionSpec, Prompt, Residual, Result, RopeScaling, RopeSpec, StackKind, StackMap, StackSpec,
    TensorRole, WeightMap,
};

use crate::blocks::{model, multi_head, require, share_per_head, token_embedding};
use crate::config::HfConfig;
use crate::maps::{Fused, lm_head, modules};

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Parts of another task.
    config.ignore(&["pre_seq_len", "prefix_projection"]);
    require(config, "position_encoding_2d", true)?;
    if config.count_or("quantization_bit", 0)? != 0 {
        return Err(config.invalid("quantization_bit", "0: its own integer format is not supported"));
    }
    let hidden_size = config.usize("hidden_size")?;
    let num_layers = config.layers(config.first_of(&["num_layers", "num_hidden_layers"]))?;
    let num_heads = config.usize("num_attention_heads")?;
    let head_dim = share_per_head(config, hidden_size, num_heads)?;
    let norm = NormSpec::layer(config.f64_or("layernorm_epsilon", 1e-5)?);
    let prompt = prompt(config)?;
    let rope = RopeSpec { theta: 10_000.0, rotary_dim: head_dim / 2, scaling: RopeScaling::None };
    let mlp = MlpSpec {
        intermediate_size: config.usize_or("inner_hidden_size", hidden_size.saturating_mul(4))?,
        activation: Activation::GeluTanh,
        bias: true,
    };
    let block = BlockSpec {
        mixer: Mixer::Attention(AttentionSpec {
            position: PositionSpec::RopeInBlocks { rope, prompt },
            ..multi_head(num_heads, head_dim, Mask::Prompt(prompt), true)
        }),
        cross_attention: None,
        ffn: Some(Ffn::Mlp(mlp)),
        residual: Residual::from_norm((2.0 * num_layers as f64).sqrt()),
        norm,
    };
    let vocab_size = config.usize("vocab_size")?;
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: token_embedding(vocab_size),
        layers: vec![block; num_layers],
        final_norm: Some(norm),
    };
    let max_length = config.optional_usize("max_sequence_length")?;
    // The class has a head, whatever its name ends in.
    Ok(model(vec![stack], Some(HeadSpec::plain(vocab_size)), max_length))
}

/// The tokens that structure a sample. Configs of the first release name the start of the answer only; the two blanks
/// lie before it.
fn prompt(config: &HfConfig) -> Result<Prompt> {
    let answer =
        config.token_id("bos_token_id")?.ok_or_else(|| config.invalid("bos_token_id", "a token id"))?;
    let [final_blank, inner_blank] = [("gmask_token_id", 3), ("mask_token_id", 4)].map(|(key, before)| {
        let id = config.token_id(key)?.or_else(|| answer.checked_sub(before));
        id.ok_or_else(|| config.invalid(key, "a token id"))
    });
    Ok(Prompt { final_blank: final_blank?, inner_blank: inner_blank?, answer })
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    stack.module(TokenEmbedding, "{prefix}word_embeddings").module(FinalNorm, "{prefix}final_layernorm");
    let names = [
        (MixerNorm, "input_layernorm"),
        (AttnOut, "attention.dense"),
        (FfnNorm, "post_attention_layernorm"),
        (MlpUp, "mlp.dense_h_to_4h"),
        (MlpDown, "mlp.dense_4h_to_h"),
    ];
    modules(&mut stack, "{prefix}layers.{layer}.", &names);
    if let Mixer::Attention(attention) = &spec.stacks[0].layers[0].mixer {
        let head_dim = attention.head_dim;
        let qkv = Fused::new("{prefix}layers.{layer}.attention.query_key_value");
        Fused { groups: attention.num_heads, rope: &[LoadOp::JoinRopeHalves { head_dim }], ..qkv }
            .split(&mut stack, &[(AttnQ, head_dim), (AttnK, head_dim), (AttnV, head_dim)]);
    }
    let mut map =
        WeightMap { prefixes: vec!["transformer.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    lm_head(&mut map, tied, &["{prefix}word_embeddings.weight"], "lm_head.weight");
    map.ignored.push("{prefix}layers.{layer}.attention.rotary_emb.inv_freq".into());
    Ok(map)
}
