//! T5Gemma (Google 2025): Gemma 2 as an encoder that sees both ways, and Gemma 2 as a decoder that also looks at its
//! output. Each has a config and an embedding of its own.

use sli_core::{
    AttentionSpec, Family, Mask, Mixer, ModelSpec, PositionSpec, Result, StackKind, StackMap, TensorRole,
    WeightMap,
};

use super::gemma2;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, model};
use crate::config::HfConfig;
use crate::maps::{modules, norms_from_one};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "t5gemma",
    family: Family::T5,
    model_types: &["t5gemma"],
    architectures: &["T5GemmaForConditionalGeneration", "T5GemmaModel", "T5GemmaEncoderModel"],
    known_models: &[KnownModel::new(
        "T5Gemma-9B-9B",
        "google/t5gemma-9b-9b-ul2",
        "a Gemma 2 that encodes, another that decodes",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Said again in the sections.
    config.ignore(&["vocab_size", "is_encoder_decoder", "classifier_dropout_rate"]);
    let mut encoder = side(config, "encoder")?;
    encoder.stacks[0].kind = StackKind::Encoder;
    for (_, attention) in attentions(&mut encoder) {
        attention.mask = match attention.mask {
            Mask::Sliding { window } => Mask::BidirectionalSliding { reach: window },
            _ => Mask::Bidirectional,
        };
    }
    let encoder_only = config.architectures().first().is_some_and(|class| class.ends_with("EncoderModel"));
    if encoder_only {
        config.ignore(&["decoder"]);
        return Ok(model(encoder.stacks, None, encoder.max_length));
    }
    let mut decoder = side(config, "decoder")?;
    let (encoded, hidden) = (encoder.stacks[0].hidden_size, decoder.stacks[0].hidden_size);
    if encoded != hidden {
        return Err(config.error(format!(
            "an encoder of width {encoded} and a decoder of width {hidden} are not supported together"
        )));
    }
    for block in &mut decoder.stacks[0].layers {
        if let Mixer::Attention(attention) = &block.mixer {
            let (mask, position) = (Mask::Bidirectional, PositionSpec::None);
            block.cross_attention = Some(AttentionSpec { mask, position, ..attention.clone() });
        }
    }
    let max_length = [encoder.max_length, decoder.max_length].into_iter().flatten().min();
    let stacks = encoder.stacks.into_iter().chain(decoder.stacks).collect();
    let mut spec = model(stacks, decoder.head, max_length);
    let section = section(config, "decoder")?;
    let start = config.token_id("decoder_start_token_id")?.or(section.token_id("bos_token_id")?);
    spec.decoder_start = Some(start.unwrap_or(2));
    Ok(spec)
}

/// The Gemma 2 that a section describes.
fn side(config: &HfConfig, side: &str) -> Result<ModelSpec> {
    let section = section(config, side)?;
    section.ignore(&[
        "is_decoder",
        "is_encoder_decoder",
        "cross_attention_hidden_size",
        "tie_word_embeddings",
    ]);
    (gemma2::ARCHITECTURE.spec)(&section)
}

fn section(config: &HfConfig, side: &str) -> Result<HfConfig> {
    config.section(side)?.ok_or_else(|| config.invalid(side, "an object"))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    const OWN_HEAD: &str = "lm_head.out_proj.weight";
    let stacks: Vec<_> =
        spec.stacks.iter().zip(["encoder", "decoder"]).map(|(_, side)| stack_weights(side)).collect();
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks, ..WeightMap::default() };
    let mut heads = vec![OWN_HEAD];
    if config.bool_or("tie_word_embeddings", true)? {
        heads.push("{prefix}decoder.embed_tokens.weight");
    }
    map.head.tensor(TensorRole::LmHead.weight(), &heads, &[]);
    if !spec.is_encoder_decoder() {
        map.ignored.extend(["{prefix}decoder.*", OWN_HEAD].map(String::from));
    }
    Ok(map)
}

fn stack_weights(side: &str) -> StackMap {
    use TensorRole::*;
    let mut map = StackMap::default();
    map.module(TokenEmbedding, &format!("{{prefix}}{side}.embed_tokens"));
    let names = [
        (AttnQ, "self_attn.q_proj"),
        (AttnK, "self_attn.k_proj"),
        (AttnV, "self_attn.v_proj"),
        (AttnOut, "self_attn.o_proj"),
        (CrossQ, "cross_attn.q_proj"),
        (CrossK, "cross_attn.k_proj"),
        (CrossV, "cross_attn.v_proj"),
        (CrossOut, "cross_attn.o_proj"),
        (MlpGate, "mlp.gate_proj"),
        (MlpUp, "mlp.up_proj"),
        (MlpDown, "mlp.down_proj"),
    ];
    modules(&mut map, &format!("{{prefix}}{side}.layers.{{layer}}."), &names);
    let norms = [
        (MixerNorm, "layers.{layer}.pre_self_attn_layernorm"),
        (MixerOutNorm, "layers.{layer}.post_self_attn_layernorm"),
        (CrossNorm, "layers.{layer}.pre_cross_attn_layernorm"),
        (CrossOutNorm, "layers.{layer}.post_cross_attn_layernorm"),
        (FfnNorm, "layers.{layer}.pre_feedforward_layernorm"),
        (FfnOutNorm, "layers.{layer}.post_feedforward_layernorm"),
        (FinalNorm, "norm"),
    ];
    norms_from_one(&mut map, &format!("{{prefix}}{side}."), &norms);
    map
}
