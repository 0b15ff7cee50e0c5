//! What a run has to do, counted before it starts.

use std::collections::HashSet;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use sli_core::{
    AttentionSpec, BlockSpec, Ffn, Group, LayerPart, Mask, Mixer, Place, PositionSpec, Residual, WeightFormat,
};
use sli_weights::{Layout, Slot};

use crate::chunk_memory::{activated_values, scratch_floats};
use crate::dataset::{Samples, TokenSequences};
use crate::model::OpenModel;
use crate::options::{HiddenDtype, Logits, Pooling, RunOptions};
use crate::pipeline::{Stage, stages};
use crate::plan::MemoryPlan;

/// Bytes and operations of a stage, or of a whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Bytes of weights to read; of experts, as many as evenly spread choices reach.
    pub weight_bytes: u64,
    /// Bytes of outputs to write.
    pub output_bytes: u64,
    /// Bytes of activations that are written to disk and read back.
    pub spill_bytes: u64,
    /// Floating-point operations of products with weights that every token goes through; a multiplication with its
    /// addition is two.
    pub dense_flops: u64,
    /// f32 values that go into these products and come out.
    pub dense_floats: u64,
    /// Operations of products with the experts that tokens choose.
    pub expert_flops: u64,
    /// f32 values that go into those and come out.
    pub expert_floats: u64,
    /// Those of products between activations: scores and weighted values of attention.
    pub attention_flops: u64,
    /// f32 values that everything between the products passes over: norms, gates, rotations, sums, scans.
    pub touched_floats: u64,
    /// Values that go through the function between the products of an MLP or an expert.
    pub activated_values: u64,
}

impl Work {
    /// All floating-point operations that count.
    pub fn flops(&self) -> u64 {
        self.dense_flops + self.expert_flops + self.attention_flops
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.weight_bytes += other.weight_bytes;
        self.output_bytes += other.output_bytes;
        self.spill_bytes += other.spill_bytes;
        self.dense_flops += other.dense_flops;
        self.dense_floats += other.dense_floats;
        self.expert_flops += other.expert_flops;
        self.expert_floats += other.expert_floats;
        self.attention_flops += other.attention_flops;
        self.touched_floats += other.touched_floats;
        self.activated_values += other.activated_values;
    }
}

/// The work of a stage, and the sizes of its products.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StageWork {
    pub(crate) work: Work,
    /// Rows that an expert is multiplied with at once, when tokens choose evenly.
    pub(crate) expert_rows: usize,
    /// Tokens of a sample, on average.
    pub(crate) sample_tokens: usize,
    /// Are weights that every token goes through decoded on their way into products?
    pub(crate) dense_coded: bool,
    /// Are those of experts?
    pub(crate) experts_coded: bool,
    /// Bytes of weights that are read ahead of it and held until it ends.
    pub(crate) held_bytes: u64,
}

/// What a run is counted from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkCounter<'a> {
    pub(crate) model: &'a OpenModel,
    pub(crate) samples: &'a Samples,
    pub(crate) options: &'a RunOptions,
    pub(crate) plan: &'a MemoryPlan,
    pub(crate) hidden_dtype: HiddenDtype,
}

impl WorkCounter<'_> {
    /// The work of each stage, in order.
    pub(crate) fn stages(&self) -> Vec<StageWork> {
        let decodes = self.samples.decoder_input.is_some();
        let stacks = if decodes { self.model.spec.stacks.len() } else { 1 };
        let stages = stages(&self.model.spec, stacks, self.plan.in_parts);
        let last = stages.len() - 1;
        let work = |(index, stage): (usize, &Stage)| {
            let mut work = match *stage {
                Stage::Embedding { stack } => self.embedding(stack),
                Stage::Layer { stack, layer, part } => self.layer(stack, layer, part),
                Stage::Final { stack } => self.final_norm(stack, index == last),
            };
            let width = self.model.spec.stacks[stage.stack()].state_width() as u64;
            let tokens = self.sequences(*stage).num_tokens() as u64;
            if self.plan.spilled {
                let reads = u64::from(index > 0);
                let writes = u64::from(index < last);
                work.spill_bytes = (reads + writes) * tokens * width * 4;
            }
            work.output_bytes += self.hidden_bytes(*stage, width);
            let place = stage.place();
            StageWork {
                work,
                expert_rows: self.expert_rows(*stage),
                sample_tokens: self.sequences(*stage).num_tokens().div_ceil(self.samples.len().max(1)),
                dense_coded: stage.groups().iter().any(|group| self.is_coded(place, *group)),
                experts_coded: self.is_coded(place, Group::Expert(0)),
                held_bytes: self.held_bytes(*stage),
            }
        };
        stages.iter().enumerate().map(work).collect()
    }

    fn sequences(&self, stage: Stage) -> &TokenSequences {
        self.samples.sequences(stage.stack())
    }

    fn hidden_bytes(&self, stage: Stage, width: u64) -> u64 {
        let keep = &self.options.hidden_states;
        let kept = match stage {
            Stage::Embedding { .. } => keep.keeps_embedding(),
            Stage::Layer { stack, layer, .. } => {
                stage.ends_layer() && keep.keeps_layer(layer, self.model.spec.stacks[stack].layers.len())
            }
            Stage::Final { .. } => keep.keeps_final(),
        };
        let rows = match self.options.pool {
            Pooling::None => self.sequences(stage).num_tokens(),
            _ => self.samples.len(),
        };
        let value = if self.hidden_dtype == HiddenDtype::F32 { 4 } else { 2 };
        if kept { rows as u64 * width * value } else { 0 }
    }

    fn expert_rows(&self, stage: Stage) -> usize {
        let Stage::Layer { stack, layer, .. } = stage else { return 0 };
        match &self.model.spec.stacks[stack].layers[layer].ffn {
            Some(Ffn::Moe(moe)) => {
                let wave = self.plan.wave_tokens.min(self.sequences(stage).num_tokens());
                (wave * moe.router.top_k).div_ceil(moe.num_experts)
            }
            _ => 0,
        }
    }

    fn embedding(&self, stack: usize) -> Work {
        let spec = &self.model.spec.stacks[stack];
        let sequences = self.samples.sequences(stack);
        let table = largest_slot(&self.model.layout, Place::Embedding { stack });
        let rows = match self.plan.embedding_resident {
            true => table.map_or(0, |table| table.need.shape[0]),
            false => sequences.tokens().iter().collect::<HashSet<_>>().len(),
        };
        let row_bytes = table.map_or(0, |table| table.bytes() / table.need.shape[0].max(1)) as u64;
        let touched_floats = (sequences.num_tokens() * spec.hidden_size) as u64;
        Work { weight_bytes: rows as u64 * row_bytes, touched_floats, ..Work::default() }
    }

    fn is_coded(&self, place: Place, group: Group) -> bool {
        let slots = self.model.layout.slots(place, group).iter();
        slots.into_iter().any(|slot| !matches!(slot.format(), WeightFormat::Plain(_)))
    }

    fn held_bytes(&self, stage: Stage) -> u64 {
        let groups = stage.groups().iter();
        groups.map(|group| self.model.layout.group_bytes(stage.place(), *group)).sum()
    }

    fn layer(&self, stack: usize, layer: usize, part: LayerPart) -> Work {
        let (layout, spec) = (&self.model.layout, &self.model.spec.stacks[stack]);
        let (place, block) = (Place::Layer { stack, layer }, &spec.layers[layer]);
        let sequences = self.samples.sequences(stack);
        let tokens = sequences.num_tokens() as u64;
        let slots = || part.groups().iter().flat_map(|group| layout.slots(place, *group));
        let mut work = Work {
            weight_bytes: part.groups().iter().map(|group| layout.group_bytes(place, *group)).sum(),
            dense_flops: 2 * tokens * matrix_elements(slots()),
            dense_floats: tokens * matrix_sides(slots()),
            attention_flops: match part.has_mixers() {
                true => attention_flops(block, self.samples, stack),
                false => 0,
            },
            touched_floats: tokens
                * scratch_floats(block, part, self.model.spec.linear_inputs, spec.hidden_size as u64),
            activated_values: match part.has_feed_forward() {
                true => tokens * activated_values(block),
                false => 0,
            },
            ..Work::default()
        };
        if let Some(Ffn::Moe(moe)) = &block.ffn {
            let experts: Vec<Group> =
                layout.groups(place).filter(|group| matches!(group, Group::Expert(_))).collect();
            let (count, chosen) = (moe.num_experts as f64, moe.router.top_k as f64);
            let bytes: u64 = experts.iter().map(|group| layout.group_bytes(place, *group)).sum();
            let slots = || experts.first().into_iter().flat_map(|group| layout.slots(place, *group));
            // Each wave reads the experts that its tokens choose.
            let wave = (self.plan.wave_tokens as u64).clamp(1, tokens.max(1));
            let reached = 1.0 - (1.0 - (chosen / count).min(1.0)).powf(wave as f64);
            work.weight_bytes += (bytes as f64 * reached) as u64 * tokens.div_ceil(wave);
            let rows = tokens * moe.router.top_k as u64;
            work.expert_flops = 2 * rows * matrix_elements(slots());
            work.expert_floats = rows * matrix_sides(slots());
        }
        work
    }

    fn final_norm(&self, stack: usize, last: bool) -> Work {
        let (layout, spec) = (&self.model.layout, &self.model.spec);
        let tokens = self.samples.sequences(stack).num_tokens() as u64;
        let hidden = spec.stacks[stack].hidden_size as u64;
        let mut work = Work {
            weight_bytes: layout.group_bytes(Place::FinalNorm { stack }, Group::Dense),
            touched_floats: 2 * tokens * hidden,
            ..Work::default()
        };
        let wanted = self.options.score || self.options.logits != Logits::None;
        if let Some(head) = spec.head.as_ref().filter(|_| last && wanted && stack + 1 == spec.stacks.len()) {
            let vocab = head.vocab_size as u64;
            let waves = match self.plan.head_resident {
                true => 1,
                false => tokens.div_ceil(self.plan.head_wave_tokens.max(1) as u64),
            };
            work.weight_bytes += layout.group_bytes(Place::Head, Group::Dense) * waves;
            let slots = || layout.slots(Place::Head, Group::Dense);
            work.dense_flops = 2 * tokens * matrix_elements(slots());
            work.dense_floats = tokens * matrix_sides(slots());
            work.touched_floats += tokens * vocab;
            work.output_bytes += match self.options.logits {
                Logits::None => 0,
                Logits::Top(k) => tokens * (8 * k as u64 + 4),
                Logits::Full => tokens * vocab * 4,
            };
            work.output_bytes += if self.options.score { tokens * 4 } else { 0 };
        }
        work
    }
}

fn largest_slot(layout: &Layout, place: Place) -> Option<&Slot> {
    layout.slots(place, Group::Dense).iter().max_by_key(|slot| slot.bytes())
}

/// Elements of all matrices, each of which every token is multiplied with.
fn matrix_elements<'a>(slots: impl IntoIterator<Item = &'a Slot>) -> u64 {
    matrices(slots).map(|shape| shape.iter().product::<usize>() as u64).sum()
}

/// Rows and columns of all matrices: what a token's products write and read.
fn matrix_sides<'a>(slots: impl IntoIterator<Item = &'a Slot>) -> u64 {
    matrices(slots).map(|shape| (shape[0] + shape[1..].iter().product::<usize>()) as u64).sum()
}

fn matrices<'a>(slots: impl IntoIterator<Item = &'a Slot>) -> impl Iterator<Item = &'a [usize]> {
    slots.into_iter().map(|slot| &slot.need.shape[..]).filter(|shape| shape.len() > 1)
}

/// Scores and weighted values of a layer, over all samples.
fn attention_flops(block: &BlockSpec, samples: &Samples, stack: usize) -> u64 {
    let sequences = samples.sequences(stack);
    let own = mixer_flops(&block.mixer, samples, stack);
    let cross = block.cross_attention.as_ref().map_or(0, |spec| {
        let pairs = (0..samples.len()).map(|s| sequences.length(s) * samples.input.length(s));
        pair_flops(spec) * pairs.sum::<usize>() as u64
    });
    let sublayers = if matches!(block.residual, Residual::Shortcut(_)) { 2 } else { 1 };
    sublayers * own + cross
}

/// Those of a mixer by itself.
fn mixer_flops(mixer: &Mixer, samples: &Samples, stack: usize) -> u64 {
    let sequences = samples.sequences(stack);
    match mixer {
        Mixer::Attention(spec) => {
            let pairs = (0..samples.len()).map(|s| visible_pairs(spec.mask, sequences.length(s) as u64));
            pair_flops(spec) * pairs.sum::<u64>()
        }
        Mixer::Differential(spec) => {
            let (attention, value_dim) = (&spec.attention, 2 * spec.attention.value_dim);
            let pairs = (0..samples.len()).map(|s| visible_pairs(attention.mask, sequences.length(s) as u64));
            2 * (attention.num_heads * (attention.head_dim + value_dim)) as u64 * pairs.sum::<u64>()
        }
        Mixer::AttentionExperts(spec) => {
            let pairs =
                (0..samples.len()).map(|s| visible_pairs(spec.attention.mask, sequences.length(s) as u64));
            spec.router.top_k as u64 * pair_flops(&spec.attention) * pairs.sum::<u64>()
        }
        // A query sees the window, and a summary for each run of tokens: of these no more than are chosen.
        Mixer::CompressedAttention(spec) => {
            let window = Mask::Sliding { window: spec.window };
            let seen = |length: u64| {
                let summaries = spec.summaries.map_or(0, |summaries| {
                    let runs = length / summaries.rate() as u64;
                    let chosen = summaries.indexer().map_or(runs, |indexer| runs.min(indexer.top_k as u64));
                    length * chosen / 2
                });
                visible_pairs(window, length) + summaries
            };
            let pairs = (0..samples.len()).map(|s| seen(sequences.length(s) as u64));
            4 * (spec.num_heads * spec.head_dim) as u64 * pairs.sum::<u64>()
        }
        Mixer::ConvolvedAttention(spec) => {
            let mask = spec.attention.mask;
            let pairs = (0..samples.len()).map(|s| visible_pairs(mask, sequences.length(s) as u64));
            pair_flops(&spec.attention) * pairs.sum::<u64>()
        }
        // Each token reads and writes all of the state.
        Mixer::DecayedAttention(spec) => {
            4 * (spec.width() * spec.head_dim) as u64 * sequences.num_tokens() as u64
        }
        Mixer::Mla(spec) => {
            let pairs = (0..samples.len()).map(|s| visible_pairs(Mask::Causal, sequences.length(s) as u64));
            2 * (spec.num_heads * (spec.head_dim() + spec.value_dim)) as u64 * pairs.sum::<u64>()
        }
        // Each token fades, reads and writes all of the state: four operations on each of its values, twice over.
        Mixer::DeltaNet(spec) => {
            8 * (spec.num_heads * spec.key_dim * spec.value_dim) as u64 * sequences.num_tokens() as u64
        }
        // Each token fades and writes all of the state, and reads it.
        Mixer::Mamba2(spec) => {
            5 * (spec.inner_size() * spec.state_size) as u64 * sequences.num_tokens() as u64
        }
        Mixer::AttentionAndScan(spec) => {
            let both = [Mixer::Attention(spec.attention.clone()), Mixer::Mamba2(spec.scan)];
            both.iter().map(|mixer| mixer_flops(mixer, samples, stack)).sum()
        }
        Mixer::InformedScan(spec) => {
            let attention = Mixer::Attention(spec.attention.clone());
            mixer_flops(&attention, samples, stack) + mixer_flops(&spec.scan, samples, stack)
        }
        // Each token fades, writes and reads all of the state, and in the last also looks at it and adds what it found.
        Mixer::Wkv5(spec) => 6 * (spec.width() * spec.head_dim) as u64 * sequences.num_tokens() as u64,
        Mixer::Wkv7(spec) => 10 * (spec.width() * spec.head_dim) as u64 * sequences.num_tokens() as u64,
        Mixer::None | Mixer::Wkv4(_) => 0,
        Mixer::Mamba1(_) | Mixer::ShortConv(_) | Mixer::RgLru(_) => 0,
    }
}

/// Operations for a query and a key that it sees, over all heads.
fn pair_flops(spec: &AttentionSpec) -> u64 {
    let met = match spec.position {
        // The rows of distances.
        PositionSpec::Disentangled(distances) => 1 + distances.terms(),
        _ => 1,
    };
    2 * (spec.num_heads * (met * spec.head_dim + spec.value_dim)) as u64
}

/// Pairs of a query and a key that it sees, in a sample of this length. Of a sample whose prompt is seen as a whole, the
/// most that there can be.
fn visible_pairs(mask: Mask, length: u64) -> u64 {
    let causal = |length: u64| length * (length + 1) / 2;
    match mask {
        Mask::Causal => causal(length),
        Mask::Sliding { window }
        | Mask::Dynamic { window: Some(window), .. }
        | Mask::Dynamic { most: window, window: None } => {
            let window = (window as u64).min(length);
            causal(window) + (length - window) * window
        }
        Mask::Chunked { size } => {
            let size = (size as u64).max(1);
            length / size * causal(size) + causal(length % size)
        }
        // Every block of scores is computed, and what is not seen hidden afterwards.
        Mask::Strided { .. } => causal(length),
        Mask::Bidirectional | Mask::Prompt(_) => length * length,
        Mask::BidirectionalSliding { reach } => {
            let window = (reach as u64 + 1).min(length);
            2 * (causal(window) + (length - window) * window) - length
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_those_that_the_mask_leaves() {
        let count = |length: u64, sees: &dyn Fn(u64, u64) -> bool| {
            (0..length).flat_map(|i| (0..length).map(move |j| (i, j))).filter(|(i, j)| sees(*i, *j)).count()
        };
        for length in [0, 1, 5, 9] {
            let causal = count(length, &|i, j| j <= i);
            let sliding = count(length, &|i, j| j <= i && i < j + 3);
            assert_eq!(visible_pairs(Mask::Causal, length), causal as u64);
            assert_eq!(visible_pairs(Mask::Sliding { window: 3 }, length), sliding as u64);
            let chunked = count(length, &|i, j| j <= i && i / 4 == j / 4);
            let two_sided = count(length, &|i, j| i.abs_diff(j) <= 2);
            assert_eq!(visible_pairs(Mask::Chunked { size: 4 }, length), chunked as u64);
            assert_eq!(visible_pairs(Mask::BidirectionalSliding { reach: 2 }, length), two_sided as u64);
            assert_eq!(visible_pairs(Mask::Bidirectional, length), length * length);
        }
    }
}
