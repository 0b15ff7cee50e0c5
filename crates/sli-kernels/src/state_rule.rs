//! Linear attention whose state fades row by row (Peng et al. 2024, 2025: RWKV-5 to RWKV-7) over packed samples.

use crate::isa::{Kernel, dispatch, isa};
use crate::packed::{Part, check_offsets, for_each_part_of_heads};
use crate::scratch::{Scratch, SharedMut};
use crate::simd::Simd;

/// The shape of a state, and when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateRule {
    /// Heads, each with a state `[head_dim, head_dim]`.
    pub num_heads: usize,
    /// Width of a key and of a value.
    pub head_dim: usize,
    /// Does a token read before it writes?
    pub reads_first: bool,
}

/// What changes from token to token, all `[tokens, heads * head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct StateTokens<'a> {
    /// With what the states are read.
    pub read: &'a [f32],
    /// What each row of the states is multiplied by.
    pub decay: &'a [f32],
    /// Where in the states it is written.
    pub key: &'a [f32],
    /// What is written.
    pub value: &'a [f32],
    /// Where the states are looked at before, and where what is found there is added.
    pub moved: Option<[&'a [f32]; 2]>,
}

/// For each token in turn `S = diag(decay) S + to (S^T from)^T + key value^T`, with S zero at the start of each sample,
/// `from` and `to` those that are [moved](StateTokens::moved), and `y = S^T read` of the new S or of the old one.
///
/// # Panics
/// Where the lengths do not fit together or the offsets do not run from 0 to tokens.
pub fn state_rule(rule: &StateRule, x: &StateTokens, offsets: &[usize], y: &mut [f32]) {
    let StateRule { num_heads, head_dim, .. } = *rule;
    let moved = x.moved.iter().flatten().copied();
    assert!(
        [x.read, x.decay, x.key, x.value].into_iter().chain(moved).all(|part| part.len() == y.len()),
        "state_rule: lengths differ"
    );
    if y.is_empty() {
        return;
    }
    let width = num_heads * head_dim;
    assert!(width > 0 && y.len().is_multiple_of(width), "state_rule: y is not rows of {width}");
    check_offsets("state_rule", offsets, y.len() / width);
    let (isa, y) = (isa(), SharedMut::new(y));
    // The columns of a state do not see each other.
    for_each_part_of_heads(offsets, num_heads, head_dim, COLUMNS, |part| {
        dispatch(isa, Columns { rule, x, part, y });
    });
}

/// Columns of a task: a state of 128 rows fits in the first cache.
const COLUMNS: usize = 64;

/// Vectors that are summed side by side, so that none waits for the one before.
const UNROLL: usize = 4;

/// Some columns of a head's state, through the tokens of a sample.
struct Columns<'a> {
    rule: &'a StateRule,
    x: &'a StateTokens<'a>,
    part: Part,
    y: SharedMut,
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rule, x, part: Part { tokens, head, first }, y } = self;
        let StateRule { num_heads, head_dim, reads_first } = *rule;
        let count = COLUMNS.min(head_dim - first);
        let mut scratch = Scratch::take(head_dim * COLUMNS);
        let state = &mut scratch.as_mut_slice()[..head_dim * COLUMNS];
        state.fill(0.0);
        let zeros = [s.splat(0.0); UNROLL];
        for token in tokens.0..tokens.1 {
            let start = (token * num_heads + head) * head_dim;
            let of_head = start..start + head_dim;
            let (read, decay) = (&x.read[of_head.clone()], &x.decay[of_head.clone()]);
            let key = &x.key[of_head.clone()];
            let moved = x.moved.map(|moved| moved.map(|part| &part[of_head.clone()]));
            let mut values = [0.0; COLUMNS];
            values[..count].copy_from_slice(&x.value[start + first..][..count]);

            let mut outputs = [0.0; COLUMNS];
            for block in (0..count).step_by(UNROLL * S::LANES) {
                let place = |row: usize, i: usize| row * COLUMNS + block + i * S::LANES;
                let mut found = zeros;
                if let Some([from, _]) = moved {
                    for (row, from) in from.iter().enumerate() {
                        let from = s.splat(*from);
                        for (i, found) in found.iter_mut().enumerate() {
                            *found = s.mul_add(s.load(&state[place(row, i)..]), from, *found);
                        }
                    }
                }
                let mut sums = zeros;
                for row in 0..head_dim {
                    let (read, decay, key) = (s.splat(read[row]), s.splat(decay[row]), s.splat(key[row]));
                    let to = moved.map(|[_, to]| s.splat(to[row]));
                    for i in 0..UNROLL {
                        let lane = &mut state[place(row, i)..];
                        let old = s.load(lane);
                        let written = s.mul(key, s.load(&values[block + i * S::LANES..]));
                        let mut new = s.mul_add(old, decay, written);
                        if let Some(to) = to {
                            new = s.mul_add(to, found[i], new);
                        }
                        s.store(lane, new);
                        sums[i] = s.mul_add(if reads_first { old } else { new }, read, sums[i]);
                    }
                }
                for (i, sum) in sums.into_iter().enumerate() {
                    s.store(&mut outputs[block + i * S::LANES..], sum);
                }
            }
            // SAFETY: no other task writes these columns of this head and sample.
            let y = unsafe { std::slice::from_raw_parts_mut(y.at(start + first), count) };
            y.copy_from_slice(&outputs[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::{Random, assert_close};

    /// The definition, in f64.
    fn expected(rule: &StateRule, x: &StateTokens, offsets: &[usize]) -> Vec<f64> {
        let StateRule { num_heads, head_dim, reads_first } = *rule;
        let mut y = vec![0.0; x.value.len()];
        for sample in offsets.windows(2) {
            for head in 0..num_heads {
                let mut state = vec![0.0; head_dim * head_dim];
                for t in sample[0]..sample[1] {
                    let at = (t * num_heads + head) * head_dim;
                    let value = |part: &[f32], i: usize| f64::from(part[at + i]);
                    let old = state.clone();
                    for j in 0..head_dim {
                        let looked = |state: &[f64], with: &[f32]| -> f64 {
                            (0..head_dim).map(|i| state[i * head_dim + j] * value(with, i)).sum()
                        };
                        for i in 0..head_dim {
                            let moved = x.moved.map_or(0.0, |[from, to]| value(to, i) * looked(&old, from));
                            state[i * head_dim + j] = value(x.decay, i) * old[i * head_dim + j]
                                + moved
                                + value(x.key, i) * value(x.value, j);
                        }
                        y[at + j] = looked(if reads_first { &old } else { &state }, x.read);
                    }
                }
            }
        }
        y
    }

    #[test]
    fn columns_follow_the_rule() {
        let offsets = [0, 3, 3, 20, 21];
        let tokens = 21;
        for (num_heads, head_dim, reads_first, moves) in
            [(1, 1, true, false), (3, 5, false, true), (2, 64, true, false), (1, 70, false, true)]
        {
            let rule = StateRule { num_heads, head_dim, reads_first };
            let mut random = Random::new(head_dim as u64);
            let norm = 0.5 / (head_dim as f32).sqrt();
            let mut narrow = || {
                let values = random.values(tokens * num_heads * head_dim);
                values.iter().map(|x| x * norm).collect::<Vec<_>>()
            };
            let (read, key, value, from, to) = (narrow(), narrow(), narrow(), narrow(), narrow());
            let decay: Vec<f32> = narrow().iter().map(|x| (x / norm).abs()).collect();
            let moved = moves.then_some([&from[..], &to[..]]);
            let x = StateTokens { read: &read, decay: &decay, key: &key, value: &value, moved };
            let expected = expected(&rule, &x, &offsets);
            for_each_isa(|isa| {
                let mut y = vec![f32::NAN; value.len()];
                state_rule(&rule, &x, &offsets, &mut y);
                assert_close(&y, &expected, 1.0, 2e-6, &format!("{isa} {rule:?}"));
            });
        }
    }
}
