//! Do the sizes of a spec fit together? What later stages divide by, index with or allocate is checked here, once,
//! for every architecture, since a config.json may say anything.

mod position;

use sli_core::{
    AttentionSpec, BlockSpec, CompressedAttentionSpec, ConvolvedAttentionSpec, DecayedAttentionSpec,
    DeltaNetSpec, ExpertGroups, Ffn, Mamba1Spec, Mamba2Spec, Mask, Mixer, MlaSpec, ModelSpec, MoeSpec,
    NormSpec, Positions, Residual, Result, SliError, StackSpec, Streams, SummaryIndexer, Temperature,
    TensorNeed,
};

use crate::config::{HfConfig, MAX_SIZE};
use position::{check_position, check_rope};

/// More parameters than this are a mistake: hundreds of times the largest model there is.
const MAX_PARAMETERS: f64 = 1e15;

/// More experts than this, in all layers together, are a mistake.
const MAX_EXPERTS: usize = 1 << 20;

/// More residual streams than this are a mistake.
const MAX_STREAMS: usize = 64;

/// More heads of a scan, each with matrices of its own, are a mistake.
const MAX_SCAN_HEADS: usize = 1 << 10;

/// Mixtures of streams that are brought to balance more often than this are a mistake.
const MAX_ITERATIONS: usize = 1000;

/// Convolutions over more tokens than this are a mistake.
const MAX_CONVOLUTION: usize = 1 << 16;

/// Refuses specs whose sizes make no model.
pub(crate) fn check(spec: &ModelSpec, config: &HfConfig) -> Result<()> {
    for stack in &spec.stacks {
        for (index, block) in stack.layers.iter().enumerate() {
            check_block(block).map_err(|message| config.error(format!("layer {index}: {message}")))?;
            if let Some(Ffn::Moe(moe)) = &block.ffn {
                check_moe(moe)?;
            }
        }
        check_embedding(stack).map_err(|message| config.error(message))?;
        let norms = [stack.embedding.norm, stack.final_norm];
        norms.iter().flatten().try_for_each(check_norm).map_err(|message| config.error(message))?;
    }
    let transform = spec.head.as_ref().and_then(|head| head.transform);
    if let Some(norm) = transform.and_then(|transform| transform.norm) {
        check_norm(&norm).map_err(|message| config.error(message))?;
    }
    check_total(spec).map_err(|message| config.error(message))
}

fn check_embedding(stack: &StackSpec) -> Result<(), String> {
    let hidden = stack.hidden_size;
    if let Some(Positions::Sinusoidal { steps, .. }) = stack.embedding.positions
        && (steps == 0 || !stack.embedding.sum_width(hidden).is_multiple_of(2))
    {
        return Err(format!("sines and cosines do not fill a hidden state of {hidden}"));
    }
    if let Some(Streams::Copied(hyper)) = &stack.embedding.streams {
        if !(1..=MAX_STREAMS).contains(&hyper.streams)
            || !(1..=MAX_ITERATIONS).contains(&hyper.iterations)
            || hyper.eps < 0.0
        {
            return Err(format!("{} residual streams, mixed {} times", hyper.streams, hyper.iterations));
        }
        check_norm(&hyper.norm)?;
    }
    if stack.embedding.token_width(hidden) == 0 {
        return Err("token rows of width 0".into());
    }
    Ok(())
}

fn check_block(block: &BlockSpec) -> Result<(), String> {
    check_norm(&block.norm)?;
    if let Some(Ffn::NormedGatedMlp(normed)) = &block.ffn {
        check_norm(&normed.norm)?;
    }
    if let Residual::ConvolvedPostNorm(convolution) = block.residual
        && (convolution.width.is_multiple_of(2) || convolution.width > MAX_CONVOLUTION)
    {
        return Err(format!("a convolution over {} tokens has no middle", convolution.width));
    }
    match &block.mixer {
        Mixer::None if block.ffn.is_some() => {}
        Mixer::None => return Err("there is nothing in it".into()),
        Mixer::Attention(attention) => check_attention(attention)?,
        Mixer::Differential(spec) => {
            check_attention(&spec.attention)?;
            check_norm(&spec.norm)?;
            if !spec.attention.num_kv_heads.is_multiple_of(2) {
                return Err(format!("{} key heads have no halves", spec.attention.num_kv_heads));
            }
        }
        Mixer::AttentionExperts(experts) => {
            check_attention(&experts.attention)?;
            let (top_k, num_experts) = (experts.router.top_k, experts.num_experts);
            if !(1..=num_experts).contains(&top_k) || num_experts > MAX_EXPERTS {
                return Err(format!("{top_k} of {num_experts} experts of attention cannot be chosen"));
            }
        }
        Mixer::CompressedAttention(compressed) => check_compressed(compressed)?,
        Mixer::ConvolvedAttention(convolved) => check_convolved(convolved)?,
        Mixer::DecayedAttention(decayed) => {
            let DecayedAttentionSpec { num_heads, head_dim, .. } = *decayed;
            if !(1..=MAX_SIZE).contains(&num_heads.saturating_mul(head_dim)) {
                return Err(format!("{num_heads} heads of {head_dim} make no attention"));
            }
            check_norm(&decayed.norm)?;
        }
        Mixer::Mla(mla) => check_mla(mla)?,
        Mixer::DeltaNet(delta) => check_delta_net(delta)?,
        Mixer::Mamba1(mamba) => check_mamba1(mamba)?,
        Mixer::Mamba2(mamba) => check_mamba2(mamba)?,
        Mixer::AttentionAndScan(both) => {
            check_attention(&both.attention)?;
            check_mamba2(&both.scan)?;
        }
        Mixer::InformedScan(informed) => {
            check_attention(&informed.attention)?;
            check_norm(&informed.norm)?;
            match &*informed.scan {
                Mixer::Mamba1(mamba) => check_mamba1(mamba)?,
                Mixer::Mamba2(mamba) => check_mamba2(mamba)?,
                _ => return Err("after a block of attention there is no scan".into()),
            }
        }
        Mixer::Wkv4(wkv) => check_heads([wkv.width, 1], &[])?,
        Mixer::Wkv5(wkv) => {
            let ranks = wkv.dynamic.map_or(vec![], |dynamic| vec![dynamic.mix_rank, dynamic.decay_rank]);
            check_heads([wkv.num_heads, wkv.head_dim], &ranks)?;
            check_norm(&wkv.norm)?;
        }
        Mixer::Wkv7(wkv) => {
            let ranks = [wkv.decay_rank, wkv.erase_rank, wkv.gate_rank, wkv.value_rank.unwrap_or(1)];
            check_heads([wkv.num_heads, wkv.head_dim], &ranks)?;
            check_norm(&wkv.norm)?;
        }
        Mixer::ShortConv(conv) if (1..=MAX_CONVOLUTION).contains(&conv.width) => {}
        Mixer::ShortConv(conv) => return Err(format!("a convolution over {} tokens", conv.width)),
        Mixer::RgLru(lru) => {
            let (width, blocks) = (lru.width, lru.num_blocks);
            if blocks == 0 || width == 0 || !width.is_multiple_of(blocks) {
                return Err(format!("{width} channels cannot be shared out over {blocks} blocks"));
            }
        }
    }
    block.cross_attention.as_ref().map_or(Ok(()), check_attention)
}

fn check_attention(spec: &AttentionSpec) -> Result<(), String> {
    let (queries, keys) = (spec.num_heads, spec.num_kv_heads);
    if keys == 0 || !queries.is_multiple_of(keys) {
        return Err(format!("{queries} query heads cannot be shared out over {keys} key heads"));
    }
    let width = queries.saturating_mul(spec.head_dim.max(spec.value_dim));
    if !(1..=MAX_SIZE).contains(&width) {
        return Err(format!("{queries} heads of {} make no attention", spec.head_dim));
    }
    let norms = [spec.qk_norm.map(|norm| norm.norm()), spec.output_norm];
    norms.iter().flatten().try_for_each(check_norm)?;
    if spec.clip.is_some_and(|clip| clip <= 0.0) {
        return Err("a clip of projections that is not positive leaves nothing of them".into());
    }
    if let Mask::Dynamic { most, window: Some(window) } = spec.mask
        && window > most
    {
        return Err(format!("of a window of {window} keys not only {most} can be seen"));
    }
    if let Mask::Sliding { window: 0 }
    | Mask::Chunked { size: 0 }
    | Mask::Dynamic { most: 0, .. }
    | Mask::Dynamic { window: Some(0), .. }
    | Mask::Strided { block: 0, .. }
    | Mask::Strided { local: 0, .. }
    | Mask::Strided { stride: 0, .. } = spec.mask
    {
        return Err("an attention window of 0 sees nothing".into());
    }
    if let Some(
        Temperature::LogLength { original_length: 0 | 1 } | Temperature::LogScores { original_length: 0 | 1 },
    ) = spec.temperature
    {
        return Err(
            "a temperature by the logarithm of the length needs samples of more than one token".into()
        );
    }
    if let Some(Temperature::LogSteps { interval, .. }) = spec.temperature
        && interval <= 0.0
    {
        return Err(format!("a temperature cannot grow every {interval} tokens"));
    }
    check_position(spec)
}

fn check_compressed(spec: &CompressedAttentionSpec) -> Result<(), String> {
    let CompressedAttentionSpec { num_heads, head_dim, output_groups, output_rank, .. } = *spec;
    let width = num_heads.saturating_mul(head_dim);
    if !(1..=MAX_SIZE).contains(&width) || spec.window == 0 || spec.query_rank == 0 {
        return Err(format!("{num_heads} heads of {head_dim} that see {} tokens", spec.window));
    }
    if output_groups == 0 || !num_heads.is_multiple_of(output_groups) {
        return Err(format!("{num_heads} heads cannot be shared out over {output_groups} groups"));
    }
    if !(1..=MAX_SIZE).contains(&output_groups.saturating_mul(output_rank)) {
        return Err(format!("{output_groups} groups of {output_rank} values"));
    }
    check_norm(&spec.norm)?;
    check_rope(&spec.rope, head_dim)?;
    let Some(summaries) = &spec.summaries else { return Ok(()) };
    if !(1..=MAX_CONVOLUTION).contains(&summaries.rate()) {
        return Err(format!("summaries of {} tokens", summaries.rate()));
    }
    let Some(indexer) = summaries.indexer() else { return Ok(()) };
    let SummaryIndexer { num_heads, head_dim, top_k } = *indexer;
    if !(1..=MAX_SIZE).contains(&num_heads.saturating_mul(head_dim))
        || head_dim < spec.rope.rotary_dim
        || top_k == 0
    {
        return Err(format!("an indexer of {num_heads} heads of {head_dim} that chooses {top_k}"));
    }
    Ok(())
}

fn check_convolved(spec: &ConvolvedAttentionSpec) -> Result<(), String> {
    check_attention(&spec.attention)?;
    let widths = [spec.channel_width, spec.head_width];
    if widths.iter().any(|width| !(1..=MAX_CONVOLUTION).contains(width)) {
        return Err(format!("convolutions over {} and {} tokens", widths[0], widths[1]));
    }
    let values = spec.attention.num_kv_heads * spec.attention.head_dim;
    if !values.is_multiple_of(2) {
        return Err(format!("{values} values cannot be shared out over two tokens"));
    }
    Ok(())
}

fn check_mla(spec: &MlaSpec) -> Result<(), String> {
    let width = spec.num_heads.saturating_mul(spec.head_dim().saturating_add(spec.value_dim));
    if !(1..=MAX_SIZE).contains(&width) {
        return Err(format!("{} heads of {} make no attention", spec.num_heads, spec.head_dim()));
    }
    check_norm(&spec.norm)?;
    spec.rope.as_ref().map_or(Ok(()), |rope| check_rope(rope, spec.rotary_dim))?;
    let Some(indexer) = &spec.indexer else { return Ok(()) };
    if indexer.num_heads.saturating_mul(indexer.head_dim) > MAX_SIZE || indexer.head_dim < spec.rotary_dim {
        return Err(format!("an indexer of {} heads of {}", indexer.num_heads, indexer.head_dim));
    }
    check_norm(&indexer.norm)
}

fn check_delta_net(spec: &DeltaNetSpec) -> Result<(), String> {
    let (keys, values) = (spec.num_key_heads, spec.num_heads);
    if keys == 0 || !values.is_multiple_of(keys) {
        return Err(format!("{values} value heads cannot be shared out over {keys} key heads"));
    }
    let width = values.saturating_mul(spec.key_dim.max(spec.value_dim));
    if !(1..=MAX_SIZE).contains(&width) || spec.key_dim == 0 || spec.value_dim == 0 {
        return Err(format!("{values} heads of {} and {} hold no state", spec.key_dim, spec.value_dim));
    }
    check_norm(&spec.norm)
}

fn check_mamba1(spec: &Mamba1Spec) -> Result<(), String> {
    let Mamba1Spec { inner_size, num_heads, state_size, conv_width, dt_rank, .. } = *spec;
    if !(1..=MAX_SCAN_HEADS).contains(&num_heads)
        || !(1..=MAX_SIZE).contains(&inner_size)
        || !inner_size.is_multiple_of(num_heads)
    {
        return Err(format!("{inner_size} channels cannot be shared out over {num_heads} heads"));
    }
    if !(1..=MAX_SIZE).contains(&inner_size.saturating_mul(state_size)) || dt_rank == 0 {
        return Err(format!(
            "{inner_size} channels of {state_size} and steps of rank {dt_rank} hold no state"
        ));
    }
    if !(1..=MAX_CONVOLUTION).contains(&conv_width) {
        return Err(format!("a convolution over {conv_width} tokens"));
    }
    spec.selection_norm.as_ref().map_or(Ok(()), check_norm)
}

fn check_mamba2(spec: &Mamba2Spec) -> Result<(), String> {
    let Mamba2Spec { num_heads, head_dim, num_groups, state_size, conv_width, .. } = *spec;
    if num_groups == 0 || num_heads == 0 || !num_heads.is_multiple_of(num_groups) {
        return Err(format!("{num_heads} heads cannot be shared out over {num_groups} groups"));
    }
    let width = num_heads.saturating_mul(head_dim);
    if !(1..=MAX_SIZE).contains(&width.saturating_mul(state_size)) {
        return Err(format!("{num_heads} heads of {head_dim} and {state_size} hold no state"));
    }
    if !(1..=MAX_CONVOLUTION).contains(&conv_width) {
        return Err(format!("a convolution over {conv_width} tokens"));
    }
    spec.norm.map_or(Ok(()), |gated| check_norm(&gated.norm))
}

/// So many heads, each with a state as wide as it is high, and matrices of these ranks.
fn check_heads([num_heads, head_dim]: [usize; 2], ranks: &[usize]) -> Result<(), String> {
    let state = num_heads.saturating_mul(head_dim).saturating_mul(head_dim);
    if !(1..=MAX_SIZE).contains(&state) || ranks.contains(&0) {
        return Err(format!("{num_heads} heads of {head_dim} and matrices of ranks {ranks:?} hold no state"));
    }
    Ok(())
}

fn check_norm(norm: &NormSpec) -> Result<(), String> {
    if (0.0..1.0).contains(&norm.eps) {
        return Ok(());
    }
    Err(format!("a norm's epsilon of {} is not between 0 and 1", norm.eps))
}

fn check_moe(spec: &MoeSpec) -> Result<()> {
    let (top_k, num_experts) = (spec.router.top_k, spec.num_experts);
    let choices = num_experts.saturating_add(spec.router.idle_experts());
    let refused = |message| Err(SliError::MoeConfiguration { message });
    if !(1..=choices).contains(&top_k) || choices > MAX_EXPERTS {
        return refused(format!("{top_k} of {num_experts} experts per token cannot be chosen"));
    }
    if let Some(network) = &spec.router.network {
        check_norm(&network.norm).or_else(refused)?;
    }
    let Some(ExpertGroups { count, chosen, best_of }) = spec.router.groups else { return Ok(()) };
    let size = choices.checked_div(count).unwrap_or(0);
    if size * count != choices || best_of > size || chosen > count || chosen * size < top_k {
        return refused(format!(
            "{top_k} of {choices} experts cannot be chosen from {chosen} of {count} groups, judged by {best_of}"
        ));
    }
    Ok(())
}

fn check_total(spec: &ModelSpec) -> Result<(), String> {
    let blocks = spec.stacks.iter().flat_map(|stack| &stack.layers);
    let experts: usize = blocks.map(num_experts).sum();
    if experts > MAX_EXPERTS {
        return Err(format!("{experts} experts in all layers, at most {MAX_EXPERTS} are possible"));
    }
    let parameters: f64 = spec.stacks.iter().map(parameters).sum();
    if parameters > MAX_PARAMETERS {
        return Err(format!("{parameters:.1e} parameters, at most {MAX_PARAMETERS:.0e} are possible"));
    }
    Ok(())
}

fn num_experts(block: &BlockSpec) -> usize {
    match &block.ffn {
        Some(Ffn::Moe(moe)) => moe.num_experts,
        _ => 0,
    }
}

/// Parameters of a stack, in floating point: hostile sizes overflow integers.
fn parameters(stack: &StackSpec) -> f64 {
    let count = |needs: Vec<TensorNeed>| -> f64 {
        needs.iter().map(|need| need.shape.iter().map(|size| *size as f64).product::<f64>()).sum()
    };
    let mut total = count(stack.embedding.needs(stack.hidden_size));
    let mut previous: Option<(&BlockSpec, f64)> = None;
    for block in &stack.layers {
        // Most layers are like the one before them; listing the needs of many experts takes a while.
        let of_block = match previous {
            Some((same, parameters)) if same == block => parameters,
            _ => count(block.needs(stack.hidden_size)),
        };
        previous = Some((block, of_block));
        total += of_block;
    }
    total
}
