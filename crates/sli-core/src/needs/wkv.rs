//! What the mixers and the MLP of RWKV need.

use super::Needs;
use crate::role::TensorRole;
use crate::spec::*;

pub(super) fn wkv4(needs: &mut Needs, spec: &Wkv4Spec, hidden: usize) {
    use TensorRole::{ShiftK, ShiftR, ShiftV, WkvBonus, WkvDecay, WkvK, WkvOut, WkvR, WkvV};
    rows(needs, &[ShiftR, ShiftK, ShiftV], hidden);
    rows(needs, &[WkvDecay, WkvBonus], spec.width);
    for role in [WkvR, WkvK, WkvV] {
        needs.linear(role, spec.width, hidden, false);
    }
    needs.linear(WkvOut, hidden, spec.width, false);
}

pub(super) fn wkv5(needs: &mut Needs, spec: &Wkv5Spec, hidden: usize) {
    use TensorRole::*;
    let (width, heads) = (spec.width(), [spec.num_heads, spec.head_dim]);
    rows(needs, &[ShiftR, ShiftK, ShiftV, ShiftG], hidden);
    match spec.dynamic {
        None => needs.tensor(WkvDecay.weight(), &heads),
        Some(DynamicMixSpec { mix_rank, decay_rank }) => {
            rows(needs, &[ShiftFirst, ShiftW], hidden);
            needs.linear(MixDown, USES as usize * mix_rank, hidden, false);
            (0..USES).for_each(|index| needs.linear(MixUp(index), hidden, mix_rank, false));
            rows(needs, &[WkvDecay], width);
            needs.linear(WkvDecayDown, decay_rank, hidden, false);
            needs.linear(WkvDecayUp, width, decay_rank, false);
        }
    }
    needs.tensor(WkvBonus.weight(), &heads);
    for role in [WkvR, WkvK, WkvV, WkvG] {
        needs.linear(role, width, hidden, false);
    }
    needs.norm(WkvNorm, &spec.norm, width);
    needs.linear(WkvOut, hidden, width, false);
}

/// What a token decides about: its decay, k, v, r and g.
const USES: u32 = 5;

pub(super) fn wkv7(needs: &mut Needs, spec: &Wkv7Spec, hidden: usize) {
    use TensorRole::*;
    let width = spec.width();
    rows(needs, &[ShiftR, ShiftW, ShiftK, ShiftV, ShiftA, ShiftG], hidden);
    for role in [WkvR, WkvK, WkvV] {
        needs.linear(role, width, hidden, false);
    }
    for (down, up, rank, bias) in [
        (WkvDecayDown, WkvDecayUp, Some(spec.decay_rank), true),
        (WkvEraseDown, WkvEraseUp, Some(spec.erase_rank), true),
        (WkvGateDown, WkvGateUp, Some(spec.gate_rank), false),
        (WkvFirstDown, WkvFirstUp, spec.value_rank, true),
    ] {
        if let Some(rank) = rank {
            needs.linear(down, rank, hidden, false);
            needs.linear(up, width, rank, bias);
        }
    }
    rows(needs, &[WkvErasedKey, WkvKeptKey], width);
    needs.tensor(WkvBonus.weight(), &[spec.num_heads, spec.head_dim]);
    needs.norm(WkvNorm, &spec.norm, width);
    needs.linear(WkvOut, hidden, width, false);
}

pub(super) fn channel_mix(needs: &mut Needs, spec: &ChannelMixSpec, hidden: usize) {
    use TensorRole::{ChannelShiftK, ChannelShiftR, MlpDown, MlpGate, MlpUp};
    rows(needs, &[ChannelShiftK], hidden);
    if spec.gated {
        rows(needs, &[ChannelShiftR], hidden);
        needs.linear(MlpGate, hidden, hidden, false);
    }
    needs.linear(MlpUp, spec.intermediate_size, hidden, false);
    needs.linear(MlpDown, hidden, spec.intermediate_size, false);
}

/// Vectors of this width.
fn rows(needs: &mut Needs, roles: &[TensorRole], width: usize) {
    roles.iter().for_each(|role| needs.tensor(role.weight(), &[width]));
}
