//! MPT (MosaicML 2023): layer norms without bias before each branch, ALiBi, a plain MLP of four times the width, no
//! biases, a tied head.

use sli_core::{
    Activation, Alibi, AttentionSpec, BlockSpec, EmbeddingSpec, Family, Ffn, Mask, Mixer, MlpSpec, ModelSpec,
    NormKind, NormSpec, PositionSpec, Residual, Result, StackKind, StackMap, StackSpec, TensorRole,
    WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{model, multi_head, plain_head, require, share_per_head};
use crate::config::HfConfig;
use crate::maps::{Fused, lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "mpt",
    family: Family::Gpt,
    model_types: &["mpt"],
    architectures: &["MptForCausalLM", "MPTForCausalLM", "MptModel"],
    known_models: &[
        KnownModel::new("MPT-7B", "mosaicml/mpt-7b", ""),
        KnownModel::new("MPT-30B", "mosaicml/mpt-30b", ""),
        KnownModel::new(
            "MPT-7B-StoryWriter",
            "mosaicml/mpt-7b-storywriter",
            "ALiBi up to 16, clipped projections",
        ),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // The width of the MLP is four times the model's whatever `expansion_ratio` says; ALiBi needs no table of learned
    // positions; the rest is about training, kernels and precision.
    config.ignore(&[
        "expansion_ratio",
        "learned_pos_emb",
        "embedding_fraction",
        "init_config",
        "init_device",
    ]);
    config.ignore(&["norm_type", "verbose", "fc_type", "tokenizer_name", "use_pad_tok_in_ffn"]);
    require(config, "no_bias", true)?;
    let hidden_size = config.usize(config.first_of(&["d_model", "hidden_size"]))?;
    let vocab_size = config.usize("vocab_size")?;
    let num_heads = config.usize(config.first_of(&["n_heads", "num_attention_heads"]))?;
    let norm = NormSpec { kind: NormKind::LayerUnbiased, eps: config.f64_or("layer_norm_epsilon", 1e-5)? };
    let head_dim = share_per_head(config, hidden_size, num_heads)?;
    let block = BlockSpec {
        mixer: Mixer::Attention(attention(config, num_heads, head_dim)?),
        cross_attention: None,
        ffn: Some(Ffn::Mlp(MlpSpec {
            intermediate_size: 4 * hidden_size,
            activation: Activation::Gelu,
            bias: false,
        })),
        residual: Residual::PreNorm,
        norm,
    };
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: EmbeddingSpec::tokens(vocab_size),
        layers: vec![block; config.layers(config.first_of(&["n_layers", "num_hidden_layers"]))?],
        final_norm: Some(norm),
    };
    if config.has("logit_scale") {
        return Err(config.invalid("logit_scale", "nothing: scaled logits are not supported"));
    }
    let max_length = config.optional_usize("max_seq_len")?;
    Ok(model(vec![stack], plain_head(config, vocab_size), max_length))
}

fn attention(config: &HfConfig, num_heads: usize, head_dim: usize) -> Result<AttentionSpec> {
    let mut attention = multi_head(num_heads, head_dim, Mask::Causal, false);
    let Some(section) = config.section("attn_config")? else {
        return Err(config.invalid("attn_config", "the settings of attention"));
    };
    section.ignore(&["attn_impl", "attn_uses_sequence_id"]);
    require(&section, "alibi", true)?;
    require(&section, "prefix_lm", false)?;
    require(&section, "qk_ln", false)?;
    if section.str_or("attn_type", "multihead_attention")? != "multihead_attention" {
        return Err(section.invalid("attn_type", "multihead_attention"));
    }
    let max_bias = section.f64_or("alibi_bias_max", 8.0)?;
    attention.position = PositionSpec::Alibi(Alibi::Interleaved { max_bias });
    attention.clip = section.optional_f64("clip_qkv")?.filter(|clip| *clip != 0.0);
    attention.scale = section.f64_or("softmax_scale", attention.scale)?;
    Ok(attention)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let hidden = spec.stacks[0].hidden_size;
    let mut stack = StackMap::default();
    modules(&mut stack, "{prefix}", &[(TokenEmbedding, "wte"), (FinalNorm, "norm_f")]);
    let names = [
        (MixerNorm, "norm_1"),
        (AttnOut, "attn.out_proj"),
        (FfnNorm, "norm_2"),
        (MlpUp, "ffn.up_proj"),
        (MlpDown, "ffn.down_proj"),
    ];
    modules(&mut stack, "{prefix}blocks.{layer}.", &names);
    Fused::new("{prefix}blocks.{layer}.attn.Wqkv")
        .split(&mut stack, &[(AttnQ, hidden), (AttnK, hidden), (AttnV, hidden)]);
    let mut map =
        WeightMap { prefixes: vec!["transformer.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}wte.weight"], "lm_head.weight");
    map.ignored.push("score.*".into());
    Ok(map)
}
