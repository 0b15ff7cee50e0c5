//! RWKV-7 "Goose" (Peng et al. 2025), as flash-linear-attention stores it: a state for each head in which each token
//! erases before it writes, values that are mixed with those of the first layer, and an MLP without a gate.

use sli_core::{
    BlockSpec, ChannelMixSpec, Family, Ffn, MixShare, Mixer, ModelSpec, NormKind, NormSpec, Residual, Result,
    StackKind, StackMap, StackSpec, TensorRole, WeightMap, Wkv7Spec,
};

use super::rwkv::{AFTER_NORM, ROW};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{model, plain_head, require, token_embedding};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "rwkv7",
    family: Family::Mamba,
    model_types: &["rwkv7"],
    architectures: &["RWKV7ForCausalLM", "RWKV7Model"],
    known_models: &[KnownModel::new(
        "RWKV-7-World-2.9B (Goose)",
        "fla-hub/rwkv7-2.9B-world",
        "a delta rule with a rate for each channel",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How sums are computed, and what a position may be, which does not end.
    config.ignore(&[
        "attn_mode",
        "fuse_norm",
        "fuse_cross_entropy",
        "fuse_linear_cross_entropy",
        "use_l2warp",
    ]);
    config.ignore(&["max_position_embeddings", "key_dim"]);
    if config.has("attn") {
        return Err(config.invalid("attn", "null: attention in some of the layers is not supported"));
    }
    require(config, "norm_first", true)?;
    if config.str_or("hidden_act", "sqrelu")? != "sqrelu" {
        return Err(config.invalid("hidden_act", "sqrelu"));
    }
    let hidden_size = config.usize("hidden_size")?;
    let vocab_size = config.usize("vocab_size")?;
    let eps = config.f64_or("norm_eps", 1e-5)?;
    let kind = match config.bool_or("norm_bias", true)? {
        true => NormKind::Layer,
        false => NormKind::LayerUnbiased,
    };
    let norm = NormSpec { kind, eps };

    let head_dim = config.usize_or("head_dim", 64)?;
    let num_heads = match config.optional_usize("num_heads")? {
        Some(num_heads) => num_heads,
        None => hidden_size / head_dim,
    };
    if num_heads.checked_mul(head_dim) != Some(hidden_size) {
        return Err(config.invalid("head_dim", "the hidden size shared out over the heads"));
    }
    if config.has("value_dim") && value_dims(config)?.iter().any(|dim| *dim != hidden_size) {
        return Err(config.invalid("value_dim", "the hidden size in each layer"));
    }
    let root = (hidden_size as f64).sqrt();
    let rank =
        |key: &str, default: f64| config.usize_or(key, (((default / 32.0).round() * 32.0) as usize).max(32));
    let mixer = Wkv7Spec {
        num_heads,
        head_dim,
        norm: NormSpec::layer(head_dim as f64 * eps),
        decay_rank: rank("decay_low_rank_dim", 1.8 * root)?,
        erase_rank: rank("a_low_rank_dim", 1.8 * root)?,
        gate_rank: rank("gate_low_rank_dim", 0.6 * (hidden_size as f64).powf(0.8))?,
        value_rank: Some(rank("v_low_rank_dim", 1.3 * root)?),
    };
    let ratio = config.f64_or("hidden_ratio", 4.0)?;
    let inner = ((hidden_size as f64 * ratio / 32.0).ceil() * 32.0).clamp(1.0, u32::MAX.into()) as usize;
    let mlp = ChannelMixSpec {
        intermediate_size: config.usize_or("intermediate_size", inner)?,
        gated: false,
        share: MixShare::Previous,
    };
    let layer = |index: usize| BlockSpec {
        mixer: Mixer::Wkv7(Wkv7Spec { value_rank: mixer.value_rank.filter(|_| index > 0), ..mixer }),
        cross_attention: None,
        ffn: Some(Ffn::ChannelMix(mlp)),
        residual: if index == 0 { AFTER_NORM } else { Residual::PreNorm },
        norm,
    };
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: token_embedding(vocab_size),
        layers: (0..config.layers("num_hidden_layers")?).map(layer).collect(),
        final_norm: Some(norm),
    };
    Ok(model(vec![stack], plain_head(config, vocab_size), None))
}

/// Widths of the values: one for all layers, or one for each.
fn value_dims(config: &HfConfig) -> Result<Vec<usize>> {
    const KEY: &str = "value_dim";
    match config.is_list(KEY) {
        true => Ok(config.usizes(KEY)?.unwrap_or_default()),
        false => Ok(vec![config.usize(KEY)?]),
    }
}

fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    const ATTENTION: &str = "{prefix}layers.{layer}.attn.";
    const FEED_FORWARD: &str = "{prefix}layers.{layer}.ffn.";
    let mut stack = StackMap::default();
    let names = [
        (TokenEmbedding, "embeddings"),
        (StreamNorm, "layers.{layer}.pre_norm"),
        (FinalNorm, "norm"),
        (MixerNorm, "layers.{layer}.attn_norm"),
        (FfnNorm, "layers.{layer}.ffn_norm"),
    ];
    modules(&mut stack, "{prefix}", &names);
    let projections = [
        (WkvR, "r_proj"),
        (WkvK, "k_proj"),
        (WkvV, "v_proj"),
        (WkvOut, "o_proj"),
        (WkvNorm, "g_norm"),
        (WkvDecayDown, "w_lora.lora.0"),
        (WkvDecayUp, "w_lora.lora.2"),
        (WkvEraseDown, "a_lora.lora.0"),
        (WkvEraseUp, "a_lora.lora.2"),
        (WkvGateDown, "g_lora.lora.0"),
        (WkvGateUp, "g_lora.lora.2"),
        (WkvFirstDown, "v_lora.lora.0"),
        (WkvFirstUp, "v_lora.lora.2"),
    ];
    modules(&mut stack, ATTENTION, &projections);
    for (role, name) in
        [(ShiftR, "x_r"), (ShiftW, "x_w"), (ShiftK, "x_k"), (ShiftV, "x_v"), (ShiftA, "x_a"), (ShiftG, "x_g")]
    {
        stack.tensor(role.weight(), &[&format!("{ATTENTION}{name}")], &ROW);
    }
    for (role, name) in [(WkvErasedKey, "k_k"), (WkvKeptKey, "k_a"), (WkvBonus, "r_k")] {
        stack.tensor(role.weight(), &[&format!("{ATTENTION}{name}")], &[]);
    }
    stack.tensor(ChannelShiftK.weight(), &[&format!("{FEED_FORWARD}x_k")], &[]);
    modules(&mut stack, FEED_FORWARD, &[(MlpUp, "key"), (MlpDown, "value")]);
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    lm_head(&mut map, tied, &["{prefix}embeddings.weight"], "lm_head.weight");
    Ok(map)
}
