//! One task of attention: a tile of queries of one head against all keys they see.

use super::disentangled::Terms;
use super::operands::Packed;
use super::{Attention, Bias};
use crate::isa::Isa;
use crate::linear::Activations;
use crate::math::{exp, tanh};
use crate::product::{
    Ahead, Arithmetic, Combine, GROUP, LINE, Layout, Precision, ProductKernel, Tile, pack_activations,
};
use crate::scratch::{Scratch, SharedMut};
use crate::simd::Simd;

/// Keys of a block: a multiple of the 24 keys of a group and the 32 of a line of bf16.
const BLOCK: usize = 192;
/// Blocks begin at multiples of this, where both a group and a line begin.
const ALIGNMENT: usize = 96;
/// Lanes of a tile at most.
const MAX_LANES: usize = 64;

pub(super) struct QueryTile<'a> {
    pub(super) isa: Isa,
    pub(super) precision: Precision,
    pub(super) attention: &'a Attention<'a>,
    /// The keys and values that its head sees, units of a line of keys, and the distance between units of values.
    pub(super) operands: Packed<'a>,
    pub(super) head_lines: usize,
    pub(super) value_stride: usize,
    /// What is added to scores by distance.
    pub(super) terms: Option<&'a Terms<'a>>,
    pub(super) query: &'a [f32],
    pub(super) head: usize,
    /// The first query as a row of `query`, and as a position in its sample.
    pub(super) row: usize,
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Keys of the sample.
    pub(super) keys: usize,
    pub(super) out: SharedMut,
}

/// What is known for each query of a tile.
struct Lanes {
    /// The visible keys, from `first` to `last`, and the position of the query.
    first: [f32; MAX_LANES],
    last: [f32; MAX_LANES],
    position: [f32; MAX_LANES],
    /// What the scores of the query are multiplied by, where the attention says.
    sharpness: [f32; MAX_LANES],
    /// The largest score so far, the sum of `e^(score - max)`, and what the last block of keys scaled them by.
    max: [f32; MAX_LANES],
    sum: [f32; MAX_LANES],
    factor: [f32; MAX_LANES],
}

impl ProductKernel for QueryTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, a: A) {
        let Attention { num_heads, head_dim, value_dim, mask, sinks, .. } = *self.attention;
        let lanes = self.rows.next_multiple_of(A::S::LANES);
        let Self { head_lines, value_stride, operands: Packed { keys, values }, .. } = self;
        let own = self.first..self.first + self.rows;
        let by_distance = self.terms.map_or(0, |terms| terms.scratch(own.clone(), self.keys, lanes));
        let lengths = [head_lines * LINE * lanes, BLOCK * lanes, (value_stride + LINE) * lanes, by_distance];
        let mut scratch = Scratch::take(lengths.iter().sum());
        let (queries, rest) = scratch.as_mut_slice().split_at_mut(lengths[0]);
        let (scores, rest) = rest.split_at_mut(lengths[1]);
        let (sums, rest) = rest.split_at_mut(lengths[2]);
        sums.fill(0.0);
        let (from, stride) = (self.row * num_heads + self.head, num_heads * head_dim);
        // SAFETY: `queries` has all lines of `lanes` lanes.
        unsafe {
            let (x, out) = (Activations::F32(self.query), queries.as_mut_ptr());
            pack_activations(a, x, from * head_dim, stride, self.rows, head_dim, lanes, out);
        }

        let mut terms = self.terms.map(|terms| {
            let (how, x) = ((self.isa, self.precision), (queries.as_ptr(), lanes));
            // SAFETY: the queries have just been packed, and the scratch is as long.
            unsafe { terms.tile(how, self.head, own, self.keys, x, &mut rest[..by_distance]) }
        });

        let mut state = self.lanes(lanes, sinks.map(|sinks| sinks[self.head]));
        let begin = mask.begin(self.first, self.keys) / ALIGNMENT * ALIGNMENT;
        let end = mask.visible(self.first + self.rows - 1, self.keys).end;
        for block in (begin..end).step_by(BLOCK) {
            let count = BLOCK.min(end - block);
            for group in (0..count).step_by(GROUP) {
                let rows = GROUP.min(count - group);
                let w = keys[(block + group) * head_lines * LINE..].as_ptr();
                let tile = Tile {
                    lanes,
                    rows,
                    lines: head_lines,
                    x: queries.as_ptr(),
                    w,
                    layout: Layout::Grouped,
                    out: scores[group * lanes..].as_mut_ptr(),
                    stride: lanes,
                    combine: Combine::Store,
                    ahead: Ahead::default(),
                };
                // SAFETY: the group of keys is whole, and the scores of a block are whole groups.
                unsafe { tile.run(self.isa, self.precision) };
                if let Some(terms) = &mut terms {
                    let at = block + group;
                    // SAFETY: the same group.
                    unsafe { terms.add(at..at + rows, w, &mut scores[group * lanes..]) };
                }
            }
            self.softmax(a, block, count, lanes, scores, &mut state);
            let tile = Tile {
                lanes,
                rows: value_dim,
                lines: count.div_ceil(LINE * A::VALUES),
                x: scores.as_ptr(),
                w: values[block / A::VALUES * value_stride..].as_ptr(),
                layout: Layout::ByUnit(value_stride),
                out: sums.as_mut_ptr(),
                stride: lanes,
                combine: Combine::ScaleAndAdd(state.factor.as_ptr()),
                ahead: Ahead::default(),
            };
            // SAFETY: values are padded to whole lines and to 24 columns, as are the sums; the weights of the softmax
            // are zero up to a whole line.
            unsafe { tile.run(self.isa, self.precision) };
        }
        self.write_out(a, sums, lanes, &state);
    }
}

impl QueryTile<'_> {
    #[inline(always)]
    fn lanes(&self, lanes: usize, sink: Option<f32>) -> Lanes {
        let mut state = Lanes {
            first: [0.0; MAX_LANES],
            last: [-1.0; MAX_LANES],
            position: [0.0; MAX_LANES],
            sharpness: [1.0; MAX_LANES],
            // A sink is a key that has been seen already and has no value.
            max: [sink.unwrap_or(f32::NEG_INFINITY); MAX_LANES],
            sum: [if sink.is_some() { 1.0 } else { 0.0 }; MAX_LANES],
            factor: [0.0; MAX_LANES],
        };
        for lane in 0..lanes {
            // Lanes past the last query repeat it: their results are not used, but stay numbers.
            let i = self.first + lane.min(self.rows - 1);
            let visible = self.attention.mask.visible(i, self.keys);
            state.first[lane] = visible.start as f32;
            state.last[lane] = visible.end as f32 - 1.0;
            state.position[lane] = i as f32;
            if let Some(sharpness) = self.attention.sharpness {
                state.sharpness[lane] = sharpness[i];
            }
        }
        state
    }

    /// Turns the scores of a block of keys, `[key][lane]`, into units of softmax weights, and updates the lanes.
    #[inline(always)]
    fn softmax<A: Arithmetic>(
        &self,
        a: A,
        block: usize,
        count: usize,
        lanes: usize,
        scores: &mut [f32],
        state: &mut Lanes,
    ) {
        let s = a.simd();
        let padded = count.next_multiple_of(LINE * A::VALUES);
        let scores = &mut scores[..padded * lanes];
        let hidden = s.splat(f32::NEG_INFINITY);
        self.add_bias(a, block, count, lanes, scores, state);
        // The first query sees the fewest keys at the end, the last one the fewest at the beginning.
        let all_visible =
            state.first[lanes - 1] <= block as f32 && (block + count) as f32 <= state.last[0] + 1.0;
        for lane in (0..lanes).step_by(A::S::LANES) {
            let (first, last) = (s.load(&state.first[lane..]), s.load(&state.last[lane..]));
            let old = s.load(&state.max[lane..]);
            let mut max = old;
            if all_visible {
                for row in scores[..count * lanes].chunks_exact(lanes) {
                    max = s.max(max, s.load(&row[lane..]));
                }
            } else {
                for (j, row) in (block..).zip(scores[..count * lanes].chunks_exact_mut(lanes)) {
                    let always = self.attention.mask.is_always_visible(self.head, j);
                    let first = if always { s.splat(0.0) } else { first };
                    let (j, score) = (s.splat(j as f32), s.load(&row[lane..]));
                    let score = s.select(s.less(j, first), hidden, s.select(s.less(last, j), hidden, score));
                    max = s.max(max, score);
                    s.store(&mut row[lane..], score);
                }
            }
            // While nothing has been seen, any finite center gives weights of 0.
            let center = s.select(s.less(hidden, max), max, s.splat(0.0));
            let factor = exp(s, s.sub(old, center));
            let mut sum = s.splat(0.0);
            for row in scores[..count * lanes].chunks_exact_mut(lanes) {
                let weight = exp(s, s.sub(s.load(&row[lane..]), center));
                sum = s.add(sum, weight);
                s.store(&mut row[lane..], weight);
            }
            for row in scores[count * lanes..].chunks_exact_mut(lanes) {
                s.store(&mut row[lane..], s.splat(0.0));
            }
            for unit in 0..padded / A::VALUES {
                // SAFETY: the rows of a unit exist. The unit goes where a row has been read before.
                unsafe {
                    let rows = scores.as_mut_ptr().add(lane);
                    let units = a.load_rows(rows.add(unit * A::VALUES * lanes), lanes);
                    s.store_at(rows.add(unit * lanes), units);
                }
            }
            let sum = s.mul_add(s.load(&state.sum[lane..]), factor, sum);
            s.store(&mut state.sum[lane..], sum);
            s.store(&mut state.max[lane..], max);
            s.store(&mut state.factor[lane..], factor);
        }
    }

    /// Scales the scores, bounds and sharpens them, and adds the bias.
    #[inline(always)]
    fn add_bias<A: Arithmetic>(
        &self,
        a: A,
        block: usize,
        count: usize,
        lanes: usize,
        scores: &mut [f32],
        state: &Lanes,
    ) {
        let s = a.simd();
        let Attention { scale, softcap, sharpness, bias, .. } = *self.attention;
        // From the distance of the last key to the first query down to that of the first key to the last query.
        let mut by_distance = [0.0; BLOCK + MAX_LANES];
        if let Bias::Distance { table, span, first } = bias {
            let table = &table[self.head * span..][..span];
            let farthest = (block + count - 1) as isize - self.first as isize;
            for (distance, value) in (0..count + lanes).map(|t| farthest - t as isize).zip(&mut by_distance) {
                *value = table[distance.saturating_sub(first).clamp(0, span as isize - 1) as usize];
            }
        }
        for (j, row) in (block..block + count).zip(scores.chunks_exact_mut(lanes)) {
            for lane in (0..lanes).step_by(A::S::LANES) {
                let mut score = s.mul(s.load(&row[lane..]), s.splat(scale));
                if let Some(cap) = softcap {
                    score = s.mul(tanh(s, s.div(score, s.splat(cap))), s.splat(cap));
                }
                if sharpness.is_some() {
                    score = s.mul(score, s.load(&state.sharpness[lane..]));
                }
                match bias {
                    // Terms by distance have been added before.
                    Bias::None | Bias::Disentangled(_) => {}
                    Bias::Alibi { slopes, symmetric } => {
                        let distance = s.sub(s.splat(j as f32), s.load(&state.position[lane..]));
                        let distance =
                            if symmetric { s.sub(s.splat(0.0), s.abs(distance)) } else { distance };
                        score = s.mul_add(distance, s.splat(slopes[self.head]), score);
                    }
                    Bias::Key { table, span } => {
                        score = s.add(score, s.splat(table[self.head * span + j]));
                    }
                    Bias::Distance { .. } => {
                        score = s.add(score, s.load(&by_distance[block + count - 1 - j + lane..]));
                    }
                }
                s.store(&mut row[lane..], score);
            }
        }
    }

    /// Divides the sums, `[value][lane]`, by the sums of weights and turns them into rows of `out`.
    #[inline(always)]
    fn write_out<A: Arithmetic>(&self, a: A, sums: &mut [f32], lanes: usize, state: &Lanes) {
        let (s, step) = (a.simd(), A::S::LANES);
        let Attention { num_heads, value_dim, .. } = *self.attention;
        let mut block = [[0.0; LINE]; LINE];
        for lane in (0..lanes).step_by(step) {
            let sum = s.load(&state.sum[lane..]);
            let seen = s.less(s.splat(0.0), sum);
            let inverse = s.select(seen, s.div(s.splat(1.0), sum), s.sub(sum, sum));
            for column in (0..value_dim).step_by(step) {
                let width = step.min(value_dim - column);
                for row in sums[column * lanes..(column + width) * lanes].chunks_exact_mut(lanes) {
                    let value = s.mul(s.load(&row[lane..]), inverse);
                    s.store(&mut row[lane..], value);
                }
                // SAFETY: whole vectors of columns stay within the scratch, which holds value_dim rounded up to 24
                // rows of sums and LINE more; `block` is 16 by 16.
                unsafe {
                    let from = sums[column * lanes + lane..].as_ptr();
                    s.transpose(from, lanes, block.as_mut_ptr().cast(), LINE);
                }
                for (i, values) in block[..step.min(self.rows - lane)].iter().enumerate() {
                    let at = ((self.row + lane + i) * num_heads + self.head) * value_dim + column;
                    // SAFETY: this head of these queries belongs to this task alone.
                    let out = unsafe { std::slice::from_raw_parts_mut(self.out.at(at), width) };
                    out.copy_from_slice(&values[..width]);
                }
            }
        }
    }
}
