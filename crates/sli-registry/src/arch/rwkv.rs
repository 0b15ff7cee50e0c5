//! RWKV-4 (Peng et al. 2023): each layer mixes a token with the one before it, takes a weighted mean of the values so far
//! and goes through an MLP that is gated by a sigmoid.

use sli_core::{
    BlockSpec, ChannelMixSpec, Family, Ffn, LoadOp, MixShare, Mixer, ModelSpec, NormSpec, Residual, Result,
    StackKind, StackMap, StackSpec, TensorRole, WeightMap, Wkv4Spec,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, model, plain_head, token_embedding};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "rwkv",
    family: Family::Mamba,
    model_types: &["rwkv"],
    architectures: &["RwkvForCausalLM", "RwkvModel"],
    known_models: &[KnownModel::new("RWKV-4-Pile-14B", "RWKV/rwkv-4-14b-pile", "layers halved every 6")],
    spec,
    weights,
};

/// Of the last norm, whatever the config says of the others.
const FINAL_NORM_EPS: f64 = 1e-5;

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let hidden_size = config.usize("hidden_size")?;
    let width = config.usize_or("attention_hidden_size", hidden_size)?;
    let mlp = ChannelMixSpec {
        intermediate_size: config.usize_or("intermediate_size", 4 * hidden_size)?,
        gated: true,
        share: MixShare::Own,
    };
    let mut spec = of_mixers(config, &Mixer::Wkv4(Wkv4Spec { width }), mlp)?;
    let every = config.count_or("rescale_every", 6)?;
    if every > 0 {
        rescale(&mut spec, every);
    }
    Ok(spec)
}

/// After every so many layers what goes on and what later layers add is halved, so that 16-bit floats do not overflow.
fn rescale(spec: &mut ModelSpec, every: usize) {
    for (layer, block) in layers(spec) {
        let stream = match layer {
            0 => None,
            _ if layer.is_multiple_of(every) => Some(0.5),
            _ => Some(1.0),
        };
        block.residual = Residual::Rescaled { stream, branch: (-((layer / every) as f64)).exp2() };
    }
    // Half of what the last norm sees is as if its epsilon were four times as large.
    if spec.num_layers().is_multiple_of(every) {
        spec.stacks[0].final_norm = Some(NormSpec::layer(4.0 * FINAL_NORM_EPS));
    }
}

/// How the first layer joins its branches to the stream, which it norms.
pub(super) const AFTER_NORM: Residual = Residual::Rescaled { stream: None, branch: 1.0 };

/// A stack of this mixer and this MLP, with layer norms before each and at the start.
pub(super) fn of_mixers(config: &HfConfig, mixer: &Mixer, mlp: ChannelMixSpec) -> Result<ModelSpec> {
    // What a position may be does not end.
    config.ignore(&["context_length"]);
    let vocab_size = config.usize("vocab_size")?;
    let norm = NormSpec::layer(config.f64_or("layer_norm_epsilon", 1e-5)?);
    let block = BlockSpec {
        mixer: mixer.clone(),
        cross_attention: None,
        ffn: Some(Ffn::ChannelMix(mlp)),
        residual: Residual::PreNorm,
        norm,
    };
    let mut stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size: config.usize("hidden_size")?,
        embedding: token_embedding(vocab_size),
        layers: vec![block; config.layers("num_hidden_layers")?],
        final_norm: Some(NormSpec::layer(FINAL_NORM_EPS)),
    };
    stack.layers[0].residual = AFTER_NORM;
    Ok(model(vec![stack], plain_head(config, vocab_size), None))
}

fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{WkvBonus, WkvDecay};
    let mut map = around_mixers(config)?;
    let stack = &mut map.stacks[0];
    stack.tensor(WkvDecay.weight(), &[&format!("{ATTENTION}time_decay")], &[]);
    stack.tensor(WkvBonus.weight(), &[&format!("{ATTENTION}time_first")], &[]);
    mixtures(stack, "time_mix_", ["key", "value", "receptance", "gate"]);
    Ok(map)
}

pub(super) const ATTENTION: &str = "{prefix}blocks.{layer}.attention.";
pub(super) const FEED_FORWARD: &str = "{prefix}blocks.{layer}.feed_forward.";

/// From [1, 1, channels] to a vector.
pub(super) const ROW: [LoadOp; 2] = [LoadOp::DropAxis(0), LoadOp::DropAxis(0)];

/// The vectors by which tokens are mixed, under what comes before the names of k, v, r and g.
pub(super) fn mixtures(stack: &mut StackMap, before: &str, [k, v, r, g]: [&str; 4]) {
    use TensorRole::{ChannelShiftK, ChannelShiftR, ShiftG, ShiftK, ShiftR, ShiftV};
    for (role, name) in [(ShiftK, k), (ShiftV, v), (ShiftR, r), (ShiftG, g)] {
        stack.tensor(role.weight(), &[&format!("{ATTENTION}{before}{name}")], &ROW);
    }
    for (role, name) in [(ChannelShiftK, k), (ChannelShiftR, r)] {
        stack.tensor(role.weight(), &[&format!("{FEED_FORWARD}{before}{name}")], &ROW);
    }
}

/// All but the vectors.
pub(super) fn around_mixers(config: &HfConfig) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    let names = [
        (TokenEmbedding, "embeddings"),
        (StreamNorm, "blocks.{layer}.pre_ln"),
        (FinalNorm, "ln_out"),
        (MixerNorm, "blocks.{layer}.ln1"),
        (FfnNorm, "blocks.{layer}.ln2"),
    ];
    modules(&mut stack, "{prefix}", &names);
    let projections = [
        (WkvR, "receptance"),
        (WkvK, "key"),
        (WkvV, "value"),
        (WkvG, "gate"),
        (WkvOut, "output"),
        (WkvNorm, "ln_x"),
    ];
    modules(&mut stack, ATTENTION, &projections);
    modules(&mut stack, FEED_FORWARD, &[(MlpUp, "key"), (MlpDown, "value"), (MlpGate, "receptance")]);
    let mut map = WeightMap { prefixes: vec!["rwkv.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    lm_head(&mut map, tied, &["{prefix}embeddings.weight"], "head.weight");
    Ok(map)
}
