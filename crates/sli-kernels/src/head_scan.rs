//! The scan by heads of Mamba-2 (Dao and Gu 2024) over packed samples.

use crate::isa::{Kernel, dispatch, isa};
use crate::math::exp;
use crate::packed::{Part, check_offsets, for_each_part_of_heads};
use crate::scratch::{Scratch, SharedMut};
use crate::simd::Simd;

/// The parameters of a scan that do not depend on the input.
#[derive(Clone, Copy, Debug)]
pub struct HeadScan<'a> {
    /// Width of a head.
    pub head_dim: usize,
    /// Groups of heads that lie side by side and share what writes and reads their states.
    pub num_groups: usize,
    /// Rows of a head's state.
    pub state: usize,
    /// A number for each head, negative: `-exp(A_log)`.
    pub a: &'a [f32],
    /// For each head, the direct path from input to output.
    pub d: &'a [f32],
}

impl HeadScan<'_> {
    /// Values of all heads together.
    fn width(&self) -> usize {
        self.a.len() * self.head_dim
    }

    /// A token's x, b and c.
    fn channels(&self) -> usize {
        self.width() + 2 * self.num_groups * self.state
    }
}

/// For each token and head in turn `S = exp(step A) S + step b x^T`, `y = S^T c + D x`, with S `[state, head_dim]` zero
/// at the start of each sample. `input` is x `[heads * head_dim]`, b and c `[groups * state]` of each token side by
/// side, `step` `[tokens, heads]`, y `[tokens, heads * head_dim]`.
///
/// # Panics
/// Where the lengths do not fit together or the offsets do not run from 0 to tokens.
pub fn head_scan(scan: &HeadScan, input: &[f32], step: &[f32], offsets: &[usize], y: &mut [f32]) {
    let heads = scan.a.len();
    assert!(
        scan.num_groups > 0 && heads.is_multiple_of(scan.num_groups) && scan.d.len() == heads,
        "head_scan: {heads} heads of {} groups",
        scan.num_groups
    );
    if y.is_empty() {
        return;
    }
    let width = scan.width();
    assert!(width > 0 && y.len().is_multiple_of(width), "head_scan: y is not rows of {width}");
    let tokens = y.len() / width;
    assert_eq!(input.len(), tokens * scan.channels(), "head_scan: x, b and c");
    assert_eq!(step.len(), tokens * heads, "head_scan: steps");
    check_offsets("head_scan", offsets, tokens);
    let (isa, y) = (isa(), SharedMut::new(y));
    // The columns of a state do not see each other.
    for_each_part_of_heads(offsets, heads, scan.head_dim, COLUMNS, |part| {
        dispatch(isa, Columns { scan, input, step, part, y });
    });
}

/// Columns of a task: a state of 128 rows fits in the first cache.
const COLUMNS: usize = 64;

/// Vectors that are summed side by side, so that none waits for the one before.
const UNROLL: usize = 4;

/// Some columns of a head's state, through the tokens of a sample.
struct Columns<'a> {
    scan: &'a HeadScan<'a>,
    input: &'a [f32],
    step: &'a [f32],
    part: Part,
    y: SharedMut,
}

impl Kernel for Columns<'_> {
    type Output = ();

    /// One pass over the state for each token. Lanes are columns, so that the output needs no sum across lanes.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { scan, input, step, part: Part { tokens, head, first }, y } = self;
        let HeadScan { head_dim, num_groups, state: rows, a, d } = *scan;
        let (heads, channels) = (a.len(), scan.channels());
        let group = head / (heads / num_groups);
        let count = COLUMNS.min(head_dim - first);
        let mut scratch = Scratch::take(rows * COLUMNS);
        let state = &mut scratch.as_mut_slice()[..rows * COLUMNS];
        state.fill(0.0);
        let (a, d) = (s.splat(a[head]), s.splat(d[head]));
        for token in tokens.0..tokens.1 {
            let of_token = &input[token * channels..][..channels];
            let (x, shared) = of_token.split_at(heads * head_dim);
            let (b, c) = shared.split_at(num_groups * rows);
            let (b, c) = (&b[group * rows..][..rows], &c[group * rows..][..rows]);
            let step = s.splat(step[token * heads + head]);
            let kept = exp(s, s.mul(step, a));
            let mut values = [0.0; COLUMNS];
            values[..count].copy_from_slice(&x[head * head_dim + first..][..count]);

            let mut outputs = [0.0; COLUMNS];
            for block in (0..count).step_by(UNROLL * S::LANES) {
                let (mut written, mut sums) = ([s.splat(0.0); UNROLL], [s.splat(0.0); UNROLL]);
                for i in 0..UNROLL {
                    let x = s.load(&values[block + i * S::LANES..]);
                    (written[i], sums[i]) = (s.mul(step, x), s.mul(d, x));
                }
                for (row, (&b, &c)) in b.iter().zip(c).enumerate() {
                    let row = &mut state[row * COLUMNS + block..][..UNROLL * S::LANES];
                    let (b, c) = (s.splat(b), s.splat(c));
                    for i in 0..UNROLL {
                        let lane = &mut row[i * S::LANES..];
                        let value = s.mul_add(written[i], b, s.mul(kept, s.load(lane)));
                        s.store(lane, value);
                        sums[i] = s.mul_add(value, c, sums[i]);
                    }
                }
                for (i, sum) in sums.into_iter().enumerate() {
                    s.store(&mut outputs[block + i * S::LANES..], sum);
                }
            }
            // SAFETY: no other task writes these columns of this head and sample.
            let y = unsafe {
                std::slice::from_raw_parts_mut(y.at((token * heads + head) * head_dim + first), count)
            };
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
    fn expected(scan: &HeadScan, input: &[f32], step: &[f32], offsets: &[usize]) -> Vec<f64> {
        let HeadScan { head_dim, num_groups, state: rows, a, d } = *scan;
        let (heads, channels) = (a.len(), scan.channels());
        let mut y = vec![0.0; step.len() * head_dim];
        for sample in offsets.windows(2) {
            for head in 0..heads {
                let mut state = vec![0.0; rows * head_dim];
                for t in sample[0]..sample[1] {
                    let step = f64::from(step[t * heads + head]);
                    let value = |at: usize| f64::from(input[t * channels + at]);
                    let group = head * num_groups / heads;
                    for j in 0..head_dim {
                        let x = value(head * head_dim + j);
                        let mut sum = f64::from(d[head]) * x;
                        for i in 0..rows {
                            let b = value(heads * head_dim + group * rows + i);
                            let c = value(heads * head_dim + (num_groups + group) * rows + i);
                            let cell = &mut state[i * head_dim + j];
                            *cell = (step * f64::from(a[head])).exp() * *cell + step * b * x;
                            sum += c * *cell;
                        }
                        y[(t * heads + head) * head_dim + j] = sum;
                    }
                }
            }
        }
        y
    }

    #[test]
    fn scans_agree_with_the_recurrence() {
        let offsets = [0, 3, 3, 20, 21];
        let tokens = 21;
        for (heads, head_dim, num_groups, state) in
            [(1, 1, 1, 1), (2, 5, 1, 3), (6, 7, 3, 8), (3, 64, 1, 16), (4, 70, 2, 33)]
        {
            let mut random = Random::new((heads * head_dim) as u64);
            let a: Vec<f32> = random.values(heads).iter().map(|x| -4.0 * x.abs()).collect();
            let d = random.values(heads);
            let scan = HeadScan { head_dim, num_groups, state, a: &a, d: &d };
            let input = random.values(tokens * scan.channels());
            let step: Vec<f32> = random.values(tokens * heads).iter().map(|x| x.abs()).collect();
            let expected = expected(&scan, &input, &step, &offsets);
            for_each_isa(|isa| {
                let mut y = vec![f32::NAN; expected.len()];
                head_scan(&scan, &input, &step, &offsets, &mut y);
                assert_close(&y, &expected, 4.0, 2e-6, &format!("{isa} {heads} {head_dim} {num_groups}"));
            });
        }
    }
}
