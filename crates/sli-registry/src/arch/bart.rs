//! BART (Lewis et al. 2019): an encoder and a decoder with layer norms after each branch and after the embedding,
//! learned positions that count from 2, and biases everywhere.

use sli_core::{
    BlockSpec, EmbeddingSpec, Family, Ffn, HeadSpec, LoadOp, Mask, Mixer, MlpSpec, ModelSpec, NormSpec,
    Positions, Residual, Result, StackKind, StackMap, StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{
    activation, has_lm_head, model, multi_head, require, scale_embedding_by_root, share_per_head,
};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules, positions_after};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "bart",
    family: Family::T5,
    model_types: &["bart"],
    architectures: &["BartForConditionalGeneration", "BartModel"],
    known_models: &[KnownModel::new("BART-large", "facebook/bart-large", "")],
    spec,
    weights,
};

/// Rows of the tables of positions that no position uses.
const UNUSED_POSITIONS: usize = 2;

/// The embedding of both stacks. Older versions of the library shared it even where matrices are not tied.
const SHARED: &str = "{prefix}shared.weight";

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    require(config, "normalize_before", false)?;
    require(config, "add_final_layer_norm", false)?;
    require(config, "static_position_embeddings", false)?;
    require(config, "normalize_embedding", true)?;
    encoder_decoder(config)
}

/// The two stacks and the head, which others share.
pub(super) fn encoder_decoder(config: &HfConfig) -> Result<ModelSpec> {
    // The first is the encoder's number of layers again, the last that of tokens that are generated.
    config.ignore(&["num_hidden_layers", "is_encoder_decoder", "max_length"]);
    require(config, "add_bias_logits", false)?;
    require(config, "is_decoder", false)?;
    let stacks = vec![stack(config, StackKind::Encoder)?, stack(config, StackKind::Decoder)?];
    let vocab_size = config.usize("vocab_size")?;
    let head = HeadSpec { bias: true, ..HeadSpec::plain(vocab_size) };
    let num_positions = config.usize("max_position_embeddings")?;
    let mut spec = model(stacks, has_lm_head(config).then_some(head), Some(num_positions));
    spec.decoder_start = Some(config.token_id("decoder_start_token_id")?.unwrap_or(2));
    if config.bool_or("scale_embedding", false)? {
        scale_embedding_by_root(&mut spec);
    }
    Ok(spec)
}

fn stack(config: &HfConfig, kind: StackKind) -> Result<StackSpec> {
    // The class does not let the config choose it.
    let norm = NormSpec::layer(1e-5);
    let decoder = kind == StackKind::Decoder;
    let side = side(kind);
    let hidden_size = config.usize("d_model")?;
    let num_heads = config.usize(&format!("{side}_attention_heads"))?;
    let head_dim = share_per_head(config, hidden_size, num_heads)?;
    let mask = if decoder { Mask::Causal } else { Mask::Bidirectional };
    let mlp = MlpSpec {
        intermediate_size: config.usize(&format!("{side}_ffn_dim"))?,
        activation: activation(config, "activation_function", "gelu")?,
        bias: true,
    };
    let block = BlockSpec {
        mixer: Mixer::Attention(multi_head(num_heads, head_dim, mask, true)),
        cross_attention: decoder.then(|| multi_head(num_heads, head_dim, Mask::Bidirectional, true)),
        ffn: Some(Ffn::Mlp(mlp)),
        residual: Residual::PostNorm,
        norm,
    };
    let positions = Some(Positions::Learned { count: config.usize("max_position_embeddings")? });
    let vocab_size = config.usize("vocab_size")?;
    Ok(StackSpec {
        kind,
        hidden_size,
        embedding: EmbeddingSpec { positions, norm: Some(norm), ..EmbeddingSpec::tokens(vocab_size) },
        layers: vec![block; config.layers(&format!("{side}_layers"))?],
        final_norm: None,
    })
}

fn side(kind: StackKind) -> &'static str {
    match kind {
        StackKind::Encoder => "encoder",
        StackKind::Decoder => "decoder",
    }
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let stacks = spec.stacks.iter().map(|stack| stack_weights(stack, tied)).collect();
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks, ..WeightMap::default() };
    lm_head(&mut map, tied, &[SHARED], "lm_head.weight");
    map.head.tensor(TensorRole::LmHead.bias(), &["final_logits_bias"], &[LoadOp::DropAxis(0)]);
    // The shared embedding where each stack has its own and its copies where it is shared, and heads of other tasks.
    let unused = [
        SHARED,
        "{prefix}encoder.embed_tokens.weight",
        "{prefix}decoder.embed_tokens.weight",
        "classification_head.*",
        "qa_outputs.*",
    ];
    map.ignored.extend(unused.map(String::from));
    Ok(map)
}

fn stack_weights(stack: &StackSpec, tied: bool) -> StackMap {
    use TensorRole::*;
    let base = format!("{{prefix}}{}.", side(stack.kind));
    let mut map = StackMap::default();
    let own = format!("{base}embed_tokens.weight");
    let embedding = if tied { [SHARED, &own] } else { [&*own, SHARED] };
    map.tensor(TokenEmbedding.weight(), &embedding, &[]);
    // Those with norms before their branches have another at the end.
    modules(&mut map, &base, &[(EmbeddingNorm, "layernorm_embedding"), (FinalNorm, "layer_norm")]);
    let count = stack.embedding.positions.and_then(Positions::count).unwrap_or(0);
    positions_after(&mut map, &format!("{base}embed_positions"), UNUSED_POSITIONS, count);
    let names = [
        (AttnQ, "self_attn.q_proj"),
        (AttnK, "self_attn.k_proj"),
        (AttnV, "self_attn.v_proj"),
        (AttnOut, "self_attn.out_proj"),
        (MixerNorm, "self_attn_layer_norm"),
        (CrossQ, "encoder_attn.q_proj"),
        (CrossK, "encoder_attn.k_proj"),
        (CrossV, "encoder_attn.v_proj"),
        (CrossOut, "encoder_attn.out_proj"),
        (CrossNorm, "encoder_attn_layer_norm"),
        (MlpUp, "fc1"),
        (MlpDown, "fc2"),
        (FfnNorm, "final_layer_norm"),
    ];
    modules(&mut map, &format!("{base}layers.{{layer}}."), &names);
    map
}
