//! What mixers need.

use super::wkv::{wkv4, wkv5, wkv7};
use super::{Needs, feed_forward};
use crate::role::TensorRole;
use crate::spec::*;

/// What the layer's mixer needs.
pub(super) fn mixer(needs: &mut Needs, mixer: &Mixer, hidden: usize) {
    match mixer {
        Mixer::None => {}
        Mixer::Attention(spec) => attention(needs, spec, hidden),
        Mixer::Differential(spec) => differential(needs, spec, hidden),
        Mixer::AttentionExperts(spec) => attention_experts(needs, spec, hidden),
        Mixer::CompressedAttention(spec) => compressed_attention(needs, spec, hidden),
        Mixer::ConvolvedAttention(spec) => convolved_attention(needs, spec, hidden),
        Mixer::DecayedAttention(spec) => decayed_attention(needs, spec, hidden),
        Mixer::Mla(spec) => mla(needs, spec, hidden),
        Mixer::DeltaNet(spec) => delta_net(needs, spec, hidden),
        Mixer::Mamba1(spec) => mamba1(needs, spec, hidden),
        Mixer::Mamba2(spec) => mamba2(needs, spec, hidden),
        Mixer::AttentionAndScan(spec) => {
            attention(needs, &spec.attention, hidden);
            mamba2(needs, &spec.scan, hidden);
        }
        Mixer::InformedScan(spec) => informed_scan(needs, spec, hidden),
        Mixer::Wkv4(spec) => wkv4(needs, spec, hidden),
        Mixer::Wkv5(spec) => wkv5(needs, spec, hidden),
        Mixer::Wkv7(spec) => wkv7(needs, spec, hidden),
        Mixer::ShortConv(spec) => short_conv(needs, spec, hidden),
        Mixer::RgLru(spec) => rg_lru(needs, spec, hidden),
    }
}

fn attention(needs: &mut Needs, spec: &AttentionSpec, hidden: usize) {
    use TensorRole::{AttnK, AttnKHeadNorm, AttnKNorm, AttnOut, AttnQ, AttnQHeadNorm, AttnQNorm, AttnV};
    projections(needs, spec, hidden, [AttnQ, AttnK, AttnV, AttnOut]);
    let has_keys = spec.key_values.has_keys();
    match &spec.qk_norm {
        None => {}
        Some(QkNorm::PerHead(norm) | QkNorm::PerHeadRotated(norm)) => {
            needs.norm(AttnQNorm, norm, spec.head_dim);
            if has_keys {
                needs.norm(AttnKNorm, norm, spec.head_dim);
            }
        }
        Some(QkNorm::EachHead(norm)) => {
            (0..spec.num_heads as u32).for_each(|head| needs.norm(AttnQHeadNorm(head), norm, spec.head_dim));
            (0..spec.num_kv_heads as u32)
                .for_each(|head| needs.norm(AttnKHeadNorm(head), norm, spec.head_dim));
        }
        Some(QkNorm::Whole(norm)) => {
            needs.norm(AttnQNorm, norm, spec.num_heads * spec.head_dim);
            needs.norm(AttnKNorm, norm, spec.num_kv_heads * spec.head_dim);
        }
    }
    if spec.sinks {
        needs.tensor(TensorRole::AttnSinks.weight(), &[spec.num_heads]);
    }
    if let Some(norm) = &spec.output_norm {
        needs.norm(TensorRole::AttnOutNorm, norm, spec.num_heads * spec.value_dim);
    }
    if let Some(gate) = spec.gate {
        needs.linear(TensorRole::AttnGate, spec.num_heads * spec.value_dim, hidden, gate.bias);
    }
    match spec.position {
        PositionSpec::RelativeBias { num_buckets, .. } => {
            needs.tensor(TensorRole::RelativeBias.weight(), &[num_buckets, spec.num_heads]);
        }
        PositionSpec::RotationTable { positions } => {
            needs.tensor(TensorRole::RotationTable.weight(), &[positions, spec.head_dim]);
        }
        PositionSpec::Disentangled(terms) => disentangled(needs, &terms, spec, hidden),
        _ => {}
    }
    if let Mask::Dynamic { .. } = spec.mask {
        let (heads, values) = (spec.num_kv_heads, spec.num_kv_heads * spec.value_dim);
        needs.linear(TensorRole::KeyBias, heads, values, spec.bias.value);
        needs.tensor(TensorRole::KeyBiasRate.weight(), &[heads]);
    }
}

fn disentangled(needs: &mut Needs, terms: &DisentangledSpec, spec: &AttentionSpec, hidden: usize) {
    use TensorRole::{DistanceK, DistanceNorm, DistanceQ, DistanceTable};
    needs.tensor(DistanceTable.weight(), &[terms.rows(), hidden]);
    if let Some(norm) = &terms.norm {
        needs.norm(DistanceNorm, norm, hidden);
    }
    if let PositionProjections::Own { key_bias } = terms.projections {
        if terms.content_to_position {
            needs.linear(DistanceK, spec.num_kv_heads * spec.head_dim, hidden, key_bias);
        }
        if terms.position_to_content {
            needs.linear(DistanceQ, spec.num_heads * spec.head_dim, hidden, true);
        }
    }
}

fn differential(needs: &mut Needs, spec: &DifferentialSpec, hidden: usize) {
    use TensorRole::{LambdaK1, LambdaK2, LambdaQ1, LambdaQ2};
    attention(needs, &spec.attention, hidden);
    for role in [LambdaQ1, LambdaK1, LambdaQ2, LambdaK2] {
        needs.tensor(role.weight(), &[spec.attention.head_dim]);
    }
}

fn attention_experts(needs: &mut Needs, spec: &AttentionExpertsSpec, hidden: usize) {
    use TensorRole::{AttnExpertOut, AttnExpertQ, AttnK, AttnOut, AttnRouter, AttnV};
    let attention = &spec.attention;
    let (queries, mixed) =
        (attention.num_heads * attention.head_dim, attention.num_heads * attention.value_dim);
    needs.linear(AttnRouter, spec.num_experts, hidden, spec.router.bias);
    needs.linear(AttnK, attention.num_kv_heads * attention.head_dim, hidden, attention.bias.key);
    needs.linear(AttnV, attention.num_kv_heads * attention.value_dim, hidden, attention.bias.value);
    for expert in 0..spec.num_experts as u32 {
        needs.linear(AttnExpertQ(expert), queries, hidden, false);
        needs.linear(AttnExpertOut(expert), hidden, mixed, false);
    }
    if attention.bias.output {
        needs.tensor(AttnOut.bias(), &[hidden]);
    }
}

fn compressed_attention(needs: &mut Needs, spec: &CompressedAttentionSpec, hidden: usize) {
    use TensorRole::*;
    let width = spec.num_heads * spec.head_dim;
    needs.linear(MlaQueryDown, spec.query_rank, hidden, false);
    needs.norm(MlaQueryNorm, &spec.norm, spec.query_rank);
    needs.linear(MlaQuery, width, spec.query_rank, false);
    needs.linear(AttnK, spec.head_dim, hidden, false);
    needs.norm(AttnKNorm, &spec.norm, spec.head_dim);
    needs.tensor(AttnSinks.weight(), &[spec.num_heads]);
    if let Some(summaries) = &spec.summaries {
        let roles = [SummaryValue, SummaryWeight, SummaryPlaces, SummaryNorm];
        summaries_of(needs, summaries, spec.head_dim, &spec.norm, hidden, roles);
        if let Some(indexer) = summaries.indexer() {
            let roles = [IndexSummaryValue, IndexSummaryWeight, IndexSummaryPlaces, IndexSummaryNorm];
            summaries_of(needs, summaries, indexer.head_dim, &spec.norm, hidden, roles);
            needs.linear(IndexQuery, indexer.num_heads * indexer.head_dim, spec.query_rank, false);
            needs.linear(IndexWeights, indexer.num_heads, hidden, false);
        }
    }
    let all = spec.output_groups * spec.output_rank;
    for group in 0..spec.output_groups as u32 {
        needs.linear(GroupOut(group), spec.output_rank, width / spec.output_groups, false);
    }
    needs.linear(AttnOut, hidden, all, false);
}

fn summaries_of(
    needs: &mut Needs,
    summaries: &Summaries,
    width: usize,
    norm: &NormSpec,
    hidden: usize,
    [value, weight, places, norm_role]: [TensorRole; 4],
) {
    let channels = summaries.channels(width);
    needs.linear(value, channels, hidden, false);
    needs.linear(weight, channels, hidden, false);
    needs.linear(places, channels, summaries.rate(), false);
    needs.norm(norm_role, norm, width);
}

fn convolved_attention(needs: &mut Needs, spec: &ConvolvedAttentionSpec, hidden: usize) {
    use TensorRole::{AttnK, AttnKScale, AttnOut, AttnQ, AttnV, AttnVBefore, ChannelTaps, HeadTaps};
    let (heads, head_dim, bias) = (spec.heads(), spec.attention.head_dim, spec.attention.bias);
    let (queries, keys) = (spec.attention.num_heads * head_dim, spec.attention.num_kv_heads * head_dim);
    needs.linear(AttnQ, queries, hidden, bias.query);
    needs.linear(AttnK, keys, hidden, bias.key);
    needs.linear(AttnV, keys / 2, hidden, bias.value);
    needs.linear(AttnVBefore, keys / 2, hidden, bias.value);
    needs.linear(ChannelTaps, heads * head_dim, spec.channel_width, true);
    needs.tensor(HeadTaps.weight(), &[heads * head_dim, head_dim, spec.head_width]);
    needs.tensor(HeadTaps.bias(), &[heads * head_dim]);
    needs.tensor(AttnKScale.weight(), &[spec.attention.num_kv_heads]);
    needs.linear(AttnOut, hidden, queries, bias.output);
}

fn decayed_attention(needs: &mut Needs, spec: &DecayedAttentionSpec, hidden: usize) {
    use TensorRole::{DecayedGate, DecayedK, DecayedNorm, DecayedOut, DecayedQ, DecayedV};
    for role in [DecayedQ, DecayedK, DecayedV, DecayedGate] {
        needs.linear(role, spec.width(), hidden, false);
    }
    needs.norm(DecayedNorm, &spec.norm, spec.width());
    needs.linear(DecayedOut, hidden, spec.width(), false);
}

/// Queries, keys, values and the way back, under these roles.
pub(super) fn projections(
    needs: &mut Needs,
    spec: &AttentionSpec,
    hidden: usize,
    [q, k, v, out]: [TensorRole; 4],
) {
    needs.linear(q, spec.num_heads * spec.head_dim, hidden, spec.bias.query);
    if spec.key_values.has_keys() {
        needs.linear(k, spec.num_kv_heads * spec.head_dim, hidden, spec.bias.key);
    }
    if spec.key_values.has_values() {
        needs.linear(v, spec.num_kv_heads * spec.value_dim, hidden, spec.bias.value);
    }
    needs.linear(out, hidden, spec.num_heads * spec.value_dim, spec.bias.output);
}

fn mla(needs: &mut Needs, spec: &MlaSpec, hidden: usize) {
    use TensorRole::*;
    let (heads, queries) = (spec.num_heads, spec.num_heads * spec.head_dim());
    match spec.query_rank {
        Some(rank) => {
            needs.linear(MlaQueryDown, rank, hidden, spec.bias);
            needs.norm(MlaQueryNorm, &spec.norm, rank);
            needs.linear(MlaQuery, queries, rank, false);
        }
        None => needs.linear(MlaQuery, queries, hidden, false),
    }
    needs.linear(MlaLatent, spec.latent_rank, hidden, spec.bias);
    needs.norm(MlaLatentNorm, &spec.norm, spec.latent_rank);
    needs.linear(MlaRotaryKey, spec.rotary_dim, hidden, spec.bias);
    needs.linear(MlaKey, heads * spec.content_dim, spec.latent_rank, false);
    needs.linear(MlaValue, heads * spec.value_dim, spec.latent_rank, false);
    needs.linear(AttnOut, hidden, heads * spec.value_dim, spec.bias);
    if let Some(indexer) = &spec.indexer {
        let from = spec.query_rank.unwrap_or(hidden);
        needs.linear(IndexQuery, indexer.num_heads * indexer.head_dim, from, false);
        needs.linear(IndexKey, indexer.head_dim, hidden, false);
        needs.norm(IndexKeyNorm, &indexer.norm, indexer.head_dim);
        needs.linear(IndexWeights, indexer.num_heads, hidden, false);
    }
}

fn delta_net(needs: &mut Needs, spec: &DeltaNetSpec, hidden: usize) {
    use TensorRole::*;
    let (keys, values) = (spec.key_width(), spec.value_width());
    for (role, conv, width) in
        [(DeltaQ, DeltaConvQ, keys), (DeltaK, DeltaConvK, keys), (DeltaV, DeltaConvV, values)]
    {
        needs.linear(role, width, hidden, false);
        needs.tensor(conv.weight(), &[width, spec.conv_width]);
    }
    let mut through = |rank: Option<usize>, [down, up]: [TensorRole; 2], out, bias| {
        if let Some(rank) = rank {
            needs.linear(down, rank, hidden, false);
        }
        needs.linear(up, out, rank.unwrap_or(hidden), bias);
    };
    let decay_rank = match spec.decay {
        StateDecay::PerHead => None,
        StateDecay::PerChannel { rank } => Some(rank),
    };
    through(decay_rank, [DeltaDecayDown, DeltaDecay], spec.num_decays(), true);
    through(spec.gate.rank, [DeltaGateDown, DeltaGate], values, false);
    needs.tensor(DeltaALog.weight(), &[spec.num_heads]);
    needs.linear(DeltaWrite, spec.num_heads, hidden, false);
    needs.norm(DeltaNorm, &spec.norm, spec.value_dim);
    needs.linear(DeltaOut, hidden, values, false);
}

fn mamba1(needs: &mut Needs, spec: &Mamba1Spec, hidden: usize) {
    use TensorRole::*;
    let (inner, head) = (spec.inner_size, spec.inner_size / spec.num_heads);
    needs.linear(SsmIn, 2 * inner, hidden, spec.projection_bias);
    needs.tensor(SsmConv.weight(), &[inner, spec.conv_width]);
    if spec.conv_bias {
        needs.tensor(SsmConv.bias(), &[inner]);
    }
    for h in 0..spec.num_heads as u32 {
        needs.linear(SsmX(h), spec.dt_rank + 2 * spec.state_size, head, false);
        needs.linear(SsmDt(h), head, spec.dt_rank, true);
        needs.tensor(SsmALog(h).weight(), &[head, spec.state_size]);
        needs.tensor(SsmD(h).weight(), &[head]);
    }
    if let Some(norm) = &spec.selection_norm {
        needs.norm(SsmStepNorm, norm, spec.dt_rank);
        needs.norm(SsmWriteNorm, norm, spec.state_size);
        needs.norm(SsmReadNorm, norm, spec.state_size);
    }
    needs.linear(SsmOut, hidden, inner, spec.projection_bias);
}

fn mamba2(needs: &mut Needs, spec: &Mamba2Spec, hidden: usize) {
    use TensorRole::*;
    needs.linear(SsmIn, spec.projected_size(), hidden, spec.input_bias);
    needs.tensor(SsmConv.weight(), &[spec.conv_channels(), spec.conv_width]);
    if spec.conv_bias {
        needs.tensor(SsmConv.bias(), &[spec.conv_channels()]);
    }
    for key in [SsmDt(0).bias(), SsmALog(0).weight(), SsmD(0).weight()] {
        needs.tensor(key, &[spec.num_heads]);
    }
    if let Some(gated) = &spec.norm {
        needs.norm(SsmNorm, &gated.norm, spec.inner_size());
    }
    needs.linear(SsmOut, hidden, spec.inner_size(), spec.output_bias);
}

fn informed_scan(needs: &mut Needs, spec: &InformedScanSpec, hidden: usize) {
    use TensorRole::*;
    let (attention, inner) = (&spec.attention, spec.mlp.intermediate_size);
    let queries = attention.num_heads * attention.head_dim;
    let (keys, values) =
        (attention.num_kv_heads * attention.head_dim, attention.num_kv_heads * attention.value_dim);
    let joint = 2 * hidden;
    needs.norm(JointNorm, &spec.norm, joint);
    needs.linear(AttnQ, queries, joint, attention.bias.query);
    needs.linear(AttnK, keys, joint, attention.bias.key);
    needs.linear(AttnV, values, joint, attention.bias.value);
    needs.linear(AttnOut, hidden, attention.num_heads * attention.value_dim, attention.bias.output);
    needs.norm(JointFfnNorm, &spec.norm, hidden);
    feed_forward(needs, inner, spec.mlp.bias, hidden, true, [MlpGate, MlpUp, MlpDown]);
    needs.linear(JointOut, hidden, hidden, false);
    if let Some(AdapterSpec { rank, attention }) = spec.adapters {
        if attention {
            for (down, up, width) in [
                (QueryAdapterDown, QueryAdapter, queries),
                (KeyAdapterDown, KeyAdapter, keys),
                (ValueAdapterDown, ValueAdapter, values),
            ] {
                needs.linear(down, rank, joint, false);
                needs.linear(up, width, rank, false);
            }
        }
        needs.linear(MlpAdapterDown, rank, hidden, false);
        needs.linear(GateAdapter, inner, rank, false);
        needs.linear(UpAdapter, inner, rank, false);
    }
    needs.norm(MixerNorm, &spec.norm, hidden);
    mixer(needs, &spec.scan, hidden);
}

fn short_conv(needs: &mut Needs, spec: &ShortConvSpec, hidden: usize) {
    use TensorRole::{ConvIn, ConvOut, ConvTaps};
    needs.linear(ConvIn, 3 * hidden, hidden, spec.bias);
    needs.linear(ConvTaps, hidden, spec.width, spec.bias);
    needs.linear(ConvOut, hidden, hidden, spec.bias);
}

fn rg_lru(needs: &mut Needs, spec: &RgLruSpec, hidden: usize) {
    use TensorRole::{LruConv, LruFade, LruFadeGate, LruGate, LruIn, LruInputGate, LruOut};
    let (width, blocks) = (spec.width, spec.num_blocks);
    needs.linear(LruGate, width, hidden, true);
    needs.linear(LruIn, width, hidden, true);
    needs.tensor(LruConv.weight(), &[width, spec.conv_width]);
    needs.tensor(LruConv.bias(), &[width]);
    for gate in [LruInputGate, LruFadeGate] {
        // [block, in, out]
        needs.tensor(gate.weight(), &[blocks, width / blocks, width / blocks]);
        needs.tensor(gate.bias(), &[blocks, width / blocks]);
    }
    needs.tensor(LruFade.weight(), &[width]);
    needs.linear(LruOut, hidden, width, true);
}
