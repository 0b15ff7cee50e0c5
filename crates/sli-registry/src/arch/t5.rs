//! T5 (Raffel et al. 2020), with v1.1, FLAN, UL2, mT5 and ByT5: an encoder and a decoder that looks at its output.
//! RMS norms before each branch, unscaled attention without biases, and a learned bias per bucket of distance, in
//! each stack one table for all layers.

use sli_core::{
    Activation, AttentionSpec, BlockSpec, Family, Ffn, HeadSpec, Mask, Mixer, MlpSpec, ModelSpec, NormSpec,
    PositionSpec, Residual, Result, StackKind, StackMap, StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{has_lm_head, model, multi_head, token_embedding};
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "t5",
    family: Family::T5,
    model_types: &["t5", "mt5"],
    architectures: &[
        "T5ForConditionalGeneration",
        "T5Model",
        "T5EncoderModel",
        "MT5ForConditionalGeneration",
        "MT5Model",
        "MT5EncoderModel",
        "T5WithLMHeadModel",
    ],
    known_models: &[
        KnownModel::new("T5-small..11B (v1.0)", "google-t5/t5-11b", "relu, tied head"),
        KnownModel::new("T5-v1.1-XXL", "google/t5-v1_1-xxl", "gated gelu, a head of its own"),
        KnownModel::new("FLAN-T5-XXL", "google/flan-t5-xxl", "as v1.1"),
        KnownModel::new("UL2-20B", "google/ul2", "gated silu"),
        KnownModel::new("FLAN-UL2-20B", "google/flan-ul2", ""),
        KnownModel::new("T0pp-11B", "bigscience/T0pp", "as v1.1"),
        KnownModel::new("mT5-XXL", "google/mt5-xxl", "as v1.1"),
        KnownModel::new(
            "ByT5-XXL",
            "google/byt5-xxl",
            "bytes; three times as many encoder as decoder layers",
        ),
        KnownModel::new("CodeT5-large", "Salesforce/codet5-large", "as v1.0"),
    ],
    spec,
    weights,
};

pub(crate) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Derived from feed_forward_proj, or never used (positions are relative).
    config.ignore(&["dense_act_fn", "is_gated_act", "is_encoder_decoder", "is_decoder", "n_positions"]);
    let vocab_size = config.usize("vocab_size")?;
    let hidden_size = config.usize("d_model")?;
    let encoder_layers = config.layers("num_layers")?;
    let encoder_only = is_encoder_only(config);
    let mut stacks = vec![stack(config, StackKind::Encoder, encoder_layers)?];
    let decoder_layers =
        if config.has("num_decoder_layers") { config.layers("num_decoder_layers")? } else { encoder_layers };
    if !encoder_only {
        stacks.push(stack(config, StackKind::Decoder, decoder_layers)?);
    }
    let scale = scales_decoder_output(config)?.then(|| (hidden_size as f64).powf(-0.5));
    let head = HeadSpec { scale, ..HeadSpec::plain(vocab_size) };
    let mut spec = model(stacks, (has_lm_head(config) && !encoder_only).then_some(head), None);
    if !encoder_only {
        let start = config.token_id("decoder_start_token_id")?.or(config.token_id("pad_token_id")?);
        spec.decoder_start = Some(start.unwrap_or(0));
    }
    Ok(spec)
}

fn is_encoder_only(config: &HfConfig) -> bool {
    config.architectures().first().is_some_and(|class| class.ends_with("EncoderModel"))
}

/// The first T5 multiplies the decoder's output by d_model^-0.5. Released configs tell it from v1.1 by whether the
/// head is tied; transformers 5 ties all heads and says it with a key of its own. mT5 never does it.
fn scales_decoder_output(config: &HfConfig) -> Result<bool> {
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let scaled = config.bool_or("scale_decoder_outputs", tied)?;
    Ok(scaled && config.model_type() != "mt5")
}

fn stack(config: &HfConfig, kind: StackKind, num_layers: usize) -> Result<StackSpec> {
    let decoder = kind == StackKind::Decoder;
    let norm = NormSpec::rms(config.f64_or("layer_norm_epsilon", 1e-6)?);
    let mask = if decoder { Mask::Causal } else { Mask::Bidirectional };
    let attention = AttentionSpec {
        scale: 1.0,
        position: PositionSpec::RelativeBias {
            num_buckets: config.usize_or("relative_attention_num_buckets", 32)?,
            max_distance: config.usize_or("relative_attention_max_distance", 128)?,
            bidirectional: !decoder,
        },
        ..multi_head(config.usize("num_heads")?, config.usize("d_kv")?, mask, false)
    };
    let cross =
        AttentionSpec { mask: Mask::Bidirectional, position: PositionSpec::None, ..attention.clone() };
    let block = BlockSpec {
        mixer: Mixer::Attention(attention),
        cross_attention: decoder.then_some(cross),
        ffn: Some(feed_forward(config)?),
        residual: Residual::PreNorm,
        norm,
    };
    Ok(StackSpec {
        kind,
        hidden_size: config.usize("d_model")?,
        embedding: token_embedding(config.usize("vocab_size")?),
        layers: vec![block; num_layers],
        final_norm: Some(norm),
    })
}

/// `relu`, `gated-gelu` (which means the tanh form), `gated-silu`, ...
fn feed_forward(config: &HfConfig) -> Result<Ffn> {
    const KEY: &str = "feed_forward_proj";
    // mT5 was released with gated-gelu throughout, T5 with relu.
    let default = if config.model_type() == "mt5" { "gated-gelu" } else { "relu" };
    let name = config.str_or(KEY, default)?;
    let (gated, name) = name.strip_prefix("gated-").map_or((false, name), |name| (true, name));
    let name = if gated && name == "gelu" { "gelu_new" } else { name };
    let activation = Activation::from_hf_name(name)
        .ok_or_else(|| config.invalid(KEY, "an activation, perhaps after 'gated-'"))?;
    let mlp = MlpSpec { intermediate_size: config.usize("d_ff")?, activation, bias: false };
    Ok(if gated { Ffn::GatedMlp(mlp) } else { Ffn::Mlp(mlp) })
}

pub(crate) fn weights(_config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let stacks = spec.stacks.iter().map(stack_weights).collect();
    let mut map = WeightMap { stacks, ..WeightMap::default() };
    map.head.tensor(TensorRole::LmHead.weight(), &["lm_head.weight", EMBEDDING], &[]);
    // Copies of the shared embedding, and a table that no released model uses.
    let unused = [
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
    ];
    map.ignored.extend(unused.map(String::from));
    if !spec.is_encoder_decoder() {
        map.ignored.extend(["decoder.*", "lm_head.weight"].map(String::from));
    }
    Ok(map)
}

const EMBEDDING: &str = "shared.weight";

fn stack_weights(stack: &StackSpec) -> StackMap {
    use TensorRole::*;
    let decoder = stack.kind == StackKind::Decoder;
    let side = if decoder { "decoder" } else { "encoder" };
    let mut map = StackMap::default();
    map.tensor(TokenEmbedding.weight(), &[EMBEDDING, &format!("{side}.embed_tokens.weight")], &[]);
    map.module(FinalNorm, &format!("{side}.final_layer_norm"));
    map.pinned(
        RelativeBias.weight(),
        &format!("{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
    );
    let block = format!("{side}.block.{{layer}}.layer.");
    let attention = [
        (AttnQ, "0.SelfAttention.q"),
        (AttnK, "0.SelfAttention.k"),
        (AttnV, "0.SelfAttention.v"),
        (AttnOut, "0.SelfAttention.o"),
        (MixerNorm, "0.layer_norm"),
    ];
    modules(&mut map, &block, &attention);
    let cross = [
        (CrossQ, "1.EncDecAttention.q"),
        (CrossK, "1.EncDecAttention.k"),
        (CrossV, "1.EncDecAttention.v"),
        (CrossOut, "1.EncDecAttention.o"),
        (CrossNorm, "1.layer_norm"),
    ];
    if decoder {
        modules(&mut map, &block, &cross);
    }
    let feed_forward = if decoder { "2" } else { "1" };
    let gated = stack.layers.iter().any(|layer| matches!(layer.ffn, Some(Ffn::GatedMlp(_))));
    let names: &[_] = if gated {
        &[(MlpGate, "DenseReluDense.wi_0"), (MlpUp, "DenseReluDense.wi_1")]
    } else {
        &[(MlpUp, "DenseReluDense.wi")]
    };
    let block = format!("{block}{feed_forward}.");
    modules(&mut map, &block, names);
    modules(&mut map, &block, &[(MlpDown, "DenseReluDense.wo"), (FfnNorm, "layer_norm")]);
    map
}
