//! RWKV-5 "Eagle" and RWKV-6 "Finch" (Peng et al. 2024): RWKV-4 with a matrix of state for each head, which is normed and
//! gated as it is read; in RWKV-6 each token decides about its mixture and its decay.

use sli_core::{
    ChannelMixSpec, DynamicMixSpec, Family, LoadOp, MixShare, Mixer, ModelSpec, NormSpec, Result, TensorRole,
    WeightMap, Wkv5Spec,
};

use super::rwkv::{ATTENTION, ROW, around_mixers, mixtures, of_mixers};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::share_per_head;
use crate::config::HfConfig;

pub(crate) const EAGLE: Architecture = Architecture {
    name: "rwkv5",
    family: Family::Mamba,
    model_types: &["rwkv5"],
    architectures: &["Rwkv5ForCausalLM", "Rwkv5Model"],
    known_models: &[KnownModel::new("RWKV-5-World-7B (Eagle)", "RWKV/v5-Eagle-7B-HF", "heads of 64")],
    spec: eagle,
    weights: eagle_weights,
};

pub(crate) const FINCH: Architecture = Architecture {
    name: "rwkv6",
    family: Family::Mamba,
    model_types: &["rwkv6"],
    architectures: &["Rwkv6ForCausalLM", "Rwkv6Model"],
    known_models: &[KnownModel::new("RWKV-6-World-14B (Finch)", "RWKV/v6-Finch-14B-HF", "decays by token")],
    spec: finch,
    weights: finch_weights,
};

/// Of what heads read, whatever the config says of the other norms.
const READ_NORM_EPS: f64 = 1e-5;

fn eagle(config: &HfConfig) -> Result<ModelSpec> {
    of_heads(config, MixShare::Own, None)
}

fn finch(config: &HfConfig) -> Result<ModelSpec> {
    // The released code has larger ones for the one width that larger models have.
    let wide = config.usize("hidden_size")? == 4096;
    let (mix_rank, decay_rank) = if wide { (64, 128) } else { (32, 64) };
    of_heads(config, MixShare::Previous, Some(DynamicMixSpec { mix_rank, decay_rank }))
}

fn of_heads(config: &HfConfig, share: MixShare, dynamic: Option<DynamicMixSpec>) -> Result<ModelSpec> {
    // Halving, which 16-bit floats need and no result shows; what follows from the width of a head; a version.
    config.ignore(&["rescale_every", "num_attention_heads", "model_version"]);
    let hidden_size = config.usize("hidden_size")?;
    let width = config.usize_or("attention_hidden_size", hidden_size)?;
    let head_dim = config.usize_or("head_size", 64)?;
    if !width.is_multiple_of(head_dim) {
        return Err(config.invalid("head_size", "a divisor of the width"));
    }
    // What is read is divided by this before it is normed.
    let divisor = config.usize_or("head_size_divisor", 8)? as f64;
    let mixer = Wkv5Spec {
        num_heads: width / head_dim,
        head_dim: share_per_head(config, width, width / head_dim)?,
        norm: NormSpec::layer(READ_NORM_EPS * divisor * divisor),
        dynamic,
    };
    let mlp = ChannelMixSpec {
        intermediate_size: config.usize_or("intermediate_size", (hidden_size * 7 / 2 / 32 * 32).max(1))?,
        gated: true,
        share,
    };
    of_mixers(config, &Mixer::Wkv5(mixer), mlp)
}

fn eagle_weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{WkvBonus, WkvDecay};
    let mut map = around_mixers(config)?;
    let stack = &mut map.stacks[0];
    mixtures(stack, "time_mix_", ["key", "value", "receptance", "gate"]);
    stack.tensor(WkvDecay.weight(), &[&format!("{ATTENTION}time_decay")], &[]);
    stack.tensor(WkvBonus.weight(), &[&format!("{ATTENTION}time_faaaa")], &[]);
    Ok(map)
}

fn finch_weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut map = around_mixers(config)?;
    let stack = &mut map.stacks[0];
    mixtures(stack, "time_maa_", ["k", "v", "r", "g"]);
    let of_use = [LoadOp::SelectExpert { count: USES }, LoadOp::Transpose];
    for (key, name, ops) in [
        (ShiftFirst.weight(), "time_maa_x", &ROW[..]),
        (ShiftW.weight(), "time_maa_w", &ROW),
        (MixDown.weight(), "time_maa_w1", &[LoadOp::Transpose]),
        (MixUp(0).weight(), "time_maa_w2", &of_use),
        (WkvDecay.weight(), "time_decay", &ROW),
        (WkvDecayDown.weight(), "time_decay_w1", &[LoadOp::Transpose]),
        (WkvDecayUp.weight(), "time_decay_w2", &[LoadOp::Transpose]),
        (WkvBonus.weight(), "time_faaaa", &[]),
    ] {
        stack.tensor(key, &[&format!("{ATTENTION}{name}")], ops);
    }
    Ok(map)
}

/// Mixtures of a token: for its decay, k, v, r and g.
const USES: usize = 5;
