//! Attention over packed samples, tile by tile with a running softmax (Dao et al. 2022): the matrix of scores of a
//! sample never exists as a whole.
//!
//! Keys and values are packed once. Each task then takes up to 64 queries of one head, which lie across the lanes of
//! vectors, so that maxima and sums over keys need no step across lanes. Where these are all queries of a short sample,
//! the task packs the keys and values itself, for all heads that share them: they stay in the first-level cache.

mod disentangled;
mod mask;
mod operands;
mod tile;

use std::ops::Range;

pub use disentangled::Disentangled;
pub use mask::{Bias, Mask};
use rayon::prelude::*;

use crate::attention::disentangled::Terms;
use crate::attention::operands::{Operands, Packed, Unpacked};
use crate::attention::tile::QueryTile;
use crate::isa::{Isa, isa};
use crate::packed::check_offsets;
use crate::product::{Geometry, Precision, dispatch_product};
use crate::scratch::{Scratch, SharedMut};

/// The shape and the rules of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Heads of the queries.
    pub num_heads: usize,
    /// Heads of keys and values; divides `num_heads`, consecutive query heads share one.
    pub num_kv_heads: usize,
    /// Width of a head of queries and keys.
    pub head_dim: usize,
    /// Width of a head of values.
    pub value_dim: usize,
    /// What scores are multiplied by, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Bounds scaled scores: `cap * tanh(score / cap)`. Comes before bias and mask.
    pub softcap: Option<f32>,
    /// By the position of a query, what its scores are multiplied by once they are bounded.
    pub sharpness: Option<&'a [f32]>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// What is added to its scores.
    pub bias: Bias<'a>,
    /// For each head, a logit that takes part in the denominator only.
    pub sinks: Option<&'a [f32]>,
}

impl Attention<'_> {
    /// Causal attention with these numbers of heads for queries and for keys, and these widths of a head of keys and of
    /// values; nothing bounds, biases or sharpens its scores.
    pub fn causal(
        [num_heads, num_kv_heads]: [usize; 2],
        [head_dim, value_dim]: [usize; 2],
        scale: f32,
    ) -> Self {
        Self {
            num_heads,
            num_kv_heads,
            head_dim,
            value_dim,
            scale,
            softcap: None,
            sharpness: None,
            mask: Mask::Causal,
            bias: Bias::None,
            sinks: None,
        }
    }
}

/// Attention of packed samples: sample s owns the query rows `query_offsets[s]..query_offsets[s + 1]` and the key rows
/// `key_offsets[s]..key_offsets[s + 1]`; position 0 of its queries is aligned with position 0 of its keys.
///
/// Shapes are query `[Tq, num_heads * head_dim]`, key `[Tk, num_kv_heads * head_dim]`, value
/// `[Tk, num_kv_heads * value_dim]` and out `[Tq, num_heads * value_dim]`. A query that sees no key gets zeros.
/// With [`Precision::Bf16`] queries, keys, values and weights of the softmax are rounded to bf16; scores, maxima and
/// sums are f32.
///
/// The result does not depend on the number of threads.
///
/// # Panics
/// Where shapes, offsets or the parts of `a` do not fit together.
pub fn attention(
    a: &Attention,
    query: &[f32],
    key: &[f32],
    value: &[f32],
    query_offsets: &[usize],
    key_offsets: &[usize],
    precision: Precision,
    out: &mut [f32],
) {
    check(a, query, key, value, query_offsets, key_offsets, out);
    if out.is_empty() {
        return;
    }
    let isa = isa();
    let geometry = Geometry::of(isa, precision);
    let all = Unpacked::new(a, (isa, precision, geometry), key, value);
    let terms = match a.bias {
        Bias::Disentangled(of) => Some(Terms::pack(a, isa, precision, geometry, of)),
        _ => None,
    };
    let pass =
        Pass { a, isa, precision, all, terms, query, panel: geometry.panel(), out: SharedMut::new(out) };
    let samples = query_offsets.windows(2).zip(key_offsets.windows(2));
    let samples = samples.map(|(q, k)| Sample { queries: q[0]..q[1], keys: k[0]..k[1] });
    let (short, long): (Vec<_>, Vec<_>) =
        samples.filter(|sample| !sample.queries.is_empty()).partition(|sample| sample.is_within(pass.panel));
    if short.len() * a.num_kv_heads < WORTH_A_TASK {
        pass.over_tiles(&[short, long].concat());
    } else {
        pass.over_samples(&short);
        pass.over_tiles(&long);
    }
}

/// Fewer samples times heads of keys are not enough tasks for all threads.
const WORTH_A_TASK: usize = 64;

/// The rows of a sample.
#[derive(Clone)]
struct Sample {
    queries: Range<usize>,
    keys: Range<usize>,
}

impl Sample {
    fn is_within(&self, rows: usize) -> bool {
        self.queries.len() <= rows && self.keys.len() <= rows
    }
}

/// What all tasks share.
struct Pass<'a> {
    a: &'a Attention<'a>,
    isa: Isa,
    precision: Precision,
    all: Unpacked<'a>,
    /// What is added to scores by distance.
    terms: Option<Terms<'a>>,
    query: &'a [f32],
    /// Queries of a tile, at most.
    panel: usize,
    out: SharedMut,
}

impl Pass<'_> {
    /// A task for each sample and head of keys, which packs them and goes through the heads of queries that share them.
    fn over_samples(&self, samples: &[Sample]) {
        let Attention { num_heads, num_kv_heads, .. } = *self.a;
        let sharing = num_heads / num_kv_heads;
        (0..samples.len() * num_kv_heads).into_par_iter().for_each(|task| {
            // Heads lie side by side in memory.
            let (sample, kv_head) = (&samples[task / num_kv_heads], task % num_kv_heads);
            let [keys, values] = self.all.lengths(sample.keys.len());
            let mut scratch = Scratch::take(keys + values);
            let (keys, values) = scratch.as_mut_slice()[..keys + values].split_at_mut(keys);
            let packed = self.all.pack(sample.keys.clone(), kv_head, keys, values);
            for head in kv_head * sharing..(kv_head + 1) * sharing {
                self.tile(sample, sample.queries.start, head, packed);
            }
        });
    }

    /// Packs all keys and values, then a task for each tile of queries and head.
    fn over_tiles(&self, samples: &[Sample]) {
        let Attention { num_heads, num_kv_heads, .. } = *self.a;
        let keys: Vec<_> = samples.iter().map(|sample| sample.keys.clone()).collect();
        let operands = Operands::pack(self.all, &keys);
        let tiles_of = |(index, sample): (usize, &Sample)| {
            sample.queries.clone().step_by(self.panel).map(move |row| (index, row))
        };
        let tiles: Vec<(usize, usize)> = samples.iter().enumerate().flat_map(tiles_of).collect();
        (0..tiles.len() * num_heads).into_par_iter().for_each(|task| {
            let ((index, row), head) = (tiles[task % tiles.len()], task / tiles.len());
            self.tile(&samples[index], row, head, operands.of(index, head * num_kv_heads / num_heads));
        });
    }

    /// The queries of a sample from `row` on, for a head.
    fn tile(&self, sample: &Sample, row: usize, head: usize, operands: Packed) {
        let tile = QueryTile {
            isa: self.isa,
            precision: self.precision,
            attention: self.a,
            operands,
            head_lines: self.all.head_lines(),
            value_stride: self.all.value_stride(),
            terms: self.terms.as_ref(),
            query: self.query,
            head,
            row,
            first: row - sample.queries.start,
            rows: self.panel.min(sample.queries.end - row),
            keys: sample.keys.len(),
            out: self.out,
        };
        dispatch_product(self.isa, self.precision, tile);
    }
}

fn check(
    a: &Attention,
    query: &[f32],
    key: &[f32],
    value: &[f32],
    query_offsets: &[usize],
    key_offsets: &[usize],
    out: &[f32],
) {
    let Attention { num_heads, num_kv_heads, head_dim, value_dim, .. } = *a;
    assert!(
        num_kv_heads > 0 && num_heads.is_multiple_of(num_kv_heads),
        "attention: {num_heads} heads share {num_kv_heads} heads of keys"
    );
    let rows = |offsets: &[usize]| offsets.last().copied().unwrap_or(0);
    let (queries, keys) = (rows(query_offsets), rows(key_offsets));
    check_offsets("attention: queries", query_offsets, queries);
    check_offsets("attention: keys", key_offsets, keys);
    assert_eq!(query_offsets.len(), key_offsets.len(), "attention: queries and keys have different samples");
    assert_eq!(query.len(), queries * num_heads * head_dim, "attention: length of query");
    assert_eq!(key.len(), keys * num_kv_heads * head_dim, "attention: length of key");
    assert_eq!(value.len(), keys * num_kv_heads * value_dim, "attention: length of value");
    assert_eq!(out.len(), queries * num_heads * value_dim, "attention: length of out");
    let longest = query_offsets.windows(2).map(|rows| rows[1] - rows[0]).max().unwrap_or(0);
    assert!(
        a.sharpness.is_none_or(|sharpness| sharpness.len() >= longest),
        "attention: a sharpness for each position"
    );
    assert!(a.sinks.is_none_or(|sinks| sinks.len() == num_heads), "attention: one sink for each head");
    match a.bias {
        Bias::None => {}
        Bias::Alibi { slopes, .. } => {
            assert_eq!(slopes.len(), num_heads, "attention: one slope for each head")
        }
        Bias::Disentangled(of) => {
            assert_eq!(query_offsets, key_offsets, "attention: distances between a sample and another one");
            of.check(a, longest);
        }
        Bias::Key { table, span } => {
            let longest = key_offsets.windows(2).map(|rows| rows[1] - rows[0]).max().unwrap_or(0);
            assert!(
                span >= longest && table.len() == num_heads * span,
                "attention: bias is not [{num_heads}, {longest} or more]"
            );
        }
        Bias::Distance { table, span, .. } => {
            assert!(
                span > 0 && table.len() == num_heads * span,
                "attention: bias is not [{num_heads}, {span}]"
            );
        }
    }
}

#[cfg(test)]
mod tests;
