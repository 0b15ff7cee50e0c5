//! Layers of linear attention with a gated delta rule, as configs and checkpoints of hybrids describe them.

use sli_core::{
    Activation, DeltaNetSpec, LoadOp, Mixer, ModelSpec, NormSpec, ReadGate, Result, StackMap, StateDecay,
    TensorRole,
};

use crate::blocks::layers;
use crate::config::HfConfig;

/// The delta rule that the `linear_` keys describe, with a factor of decay for each head, and heads normed by `norm`.
pub(crate) fn delta_net(config: &HfConfig, norm: NormSpec) -> Result<DeltaNetSpec> {
    if config.str_or("hidden_act", "silu")? != "silu" {
        return Err(config.invalid("hidden_act", "silu"));
    }
    Ok(DeltaNetSpec {
        num_key_heads: config.usize_or("linear_num_key_heads", 16)?,
        num_heads: config.usize_or("linear_num_value_heads", 32)?,
        key_dim: config.usize_or("linear_key_head_dim", 128)?,
        value_dim: config.usize_or("linear_value_head_dim", 128)?,
        conv_width: config.usize_or("linear_conv_kernel_dim", 4)?,
        decay: StateDecay::PerHead,
        write_scale: 1.0,
        norm,
        gate: ReadGate { activation: Activation::Silu, rank: None },
    })
}

/// The delta rule in place of the attention of these layers.
pub(crate) fn attend_linearly(spec: &mut ModelSpec, linear: &[bool], delta: DeltaNetSpec) {
    for (layer, block) in layers(spec) {
        if linear[layer] {
            block.mixer = Mixer::DeltaNet(delta);
        }
    }
}

/// The first delta rule of a model.
pub(crate) fn delta_of(spec: &ModelSpec) -> Option<&DeltaNetSpec> {
    spec.stacks.iter().flat_map(|stack| &stack.layers).find_map(|block| match &block.mixer {
        Mixer::DeltaNet(delta) => Some(delta),
        _ => None,
    })
}

/// Convolutions of queries, keys and values in one tensor, row after row, or in several of which no end is an end of
/// theirs.
pub(crate) fn fused_convolutions(map: &mut StackMap, names: &[&str], delta: &DeltaNetSpec) {
    use TensorRole::{DeltaConvK, DeltaConvQ, DeltaConvV};
    let (keys, values) = (delta.key_width(), delta.value_width());
    for (role, start) in [(DeltaConvQ, 0), (DeltaConvK, keys), (DeltaConvV, 2 * keys)] {
        let rows = LoadOp::TakeRows { groups: 1, block: 2 * keys + values, start };
        map.joined(role.weight(), names, &[LoadOp::DropAxis(1), rows]);
    }
}

/// The bias of the decays' projection and the numbers A, under `base`; `ops` bring A to one dimension.
pub(crate) fn decay_parameters(map: &mut StackMap, base: &str, ops: &[LoadOp]) {
    map.tensor(TensorRole::DeltaDecay.bias(), &[&format!("{base}dt_bias")], &[]);
    map.tensor(TensorRole::DeltaALog.weight(), &[&format!("{base}A_log")], ops);
}
