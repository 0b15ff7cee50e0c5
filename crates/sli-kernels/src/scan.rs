//! The selective scan of Mamba (Gu and Dao 2023, algorithm 2) over packed samples.

use crate::isa::{Kernel, dispatch, isa};
use crate::math::exp;
use crate::packed::{Part, check_offsets, for_each_part_of_heads};
use crate::scratch::{Scratch, SharedMut};
use crate::simd::Simd;

/// The parameters of a scan that do not depend on the input.
#[derive(Clone, Copy, Debug)]
pub struct SelectiveScan<'a> {
    /// Channels of the input.
    pub channels: usize,
    /// State values for each channel.
    pub state: usize,
    /// `[channels, state]`, negative: `-exp(A_log)`.
    pub a: &'a [f32],
    /// `[channels]`, the direct path from input to output.
    pub d: &'a [f32],
}

/// For each token in turn `h = exp(delta A) h + delta B x`, `y = C . h + D x`, with h zero at the start of each
/// sample. x, delta (after its softplus) and y are `[tokens, channels]`, b and c `[tokens, state]`.
///
/// # Panics
/// Where the lengths do not fit together or the offsets do not run from 0 to tokens.
pub fn selective_scan(
    s: &SelectiveScan,
    x: &[f32],
    delta: &[f32],
    b: &[f32],
    c: &[f32],
    offsets: &[usize],
    y: &mut [f32],
) {
    let SelectiveScan { channels, state, a, d } = *s;
    assert!(x.len() == y.len() && delta.len() == y.len(), "selective_scan: lengths differ");
    assert!(
        a.len() == channels * state && d.len() == channels,
        "selective_scan: A is not [{channels}, {state}]"
    );
    if y.is_empty() {
        return;
    }
    assert!(channels > 0 && x.len().is_multiple_of(channels), "selective_scan: x is not rows of {channels}");
    let tokens = x.len() / channels;
    assert!(
        b.len() == tokens * state && c.len() == b.len(),
        "selective_scan: B or C is not [{tokens}, {state}]"
    );
    check_offsets("selective_scan", offsets, tokens);
    let (isa, y) = (isa(), SharedMut::new(y));
    for_each_part_of_heads(offsets, 1, channels, CHANNELS, |part| {
        dispatch(isa, Scan { parameters: s, x, delta, b, c, part, y });
    });
}

/// Channels of a task: four cache lines of each row.
const CHANNELS: usize = 64;

/// A sample's scan for some channels.
struct Scan<'a> {
    parameters: &'a SelectiveScan<'a>,
    x: &'a [f32],
    delta: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
    part: Part,
    y: SharedMut,
}

impl Kernel for Scan<'_> {
    type Output = ();

    /// Lanes are channels, so that neither the state nor the output needs a sum across lanes.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { parameters, x, delta, b, c, part: Part { tokens, first, .. }, y } = self;
        let SelectiveScan { channels, state, a, d } = *parameters;
        let count = CHANNELS.min(channels - first);
        let mut scratch = Scratch::take(2 * state * CHANNELS);
        let (rates, h) = scratch.as_mut_slice()[..2 * state * CHANNELS].split_at_mut(state * CHANNELS);
        for (n, rates) in rates.chunks_exact_mut(CHANNELS).enumerate() {
            rates.fill(0.0);
            for (i, rate) in rates[..count].iter_mut().enumerate() {
                *rate = a[(first + i) * state + n];
            }
        }
        h.fill(0.0);
        for token in tokens.0..tokens.1 {
            let (b, c) = (&b[token * state..][..state], &c[token * state..][..state]);
            for lane in (0..count).step_by(S::LANES) {
                let (at, length) = (token * channels + first + lane, S::LANES.min(count - lane));
                let load = |values: &[f32], at: usize| s.load_up_to(&values[at..at + length]);
                let (x, delta) = (load(x, at), load(delta, at));
                let input = s.mul(delta, x);
                let mut sum = s.mul(load(d, first + lane), x);
                for (n, (&b, &c)) in b.iter().zip(c).enumerate() {
                    let place = n * CHANNELS + lane..n * CHANNELS + lane + S::LANES;
                    let decay = exp(s, s.mul(delta, s.load(&rates[place.clone()])));
                    let state = s.mul_add(decay, s.load(&h[place.clone()]), s.mul(input, s.splat(b)));
                    s.store(&mut h[place], state);
                    sum = s.mul_add(state, s.splat(c), sum);
                }
                // SAFETY: no other task writes these channels of this sample.
                let y = unsafe { std::slice::from_raw_parts_mut(y.at(at), length) };
                s.store_up_to(y, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::{Random, assert_close};

    #[test]
    fn scans_agree_with_the_recurrence() {
        for (channels, state) in [(1, 1), (5, 3), (70, 16), (130, 4)] {
            let offsets = [0, 3, 3, 20, 21];
            let tokens = 21;
            let mut random = Random::new(channels as u64);
            let x = random.values(tokens * channels);
            let delta: Vec<f32> = random.values(tokens * channels).iter().map(|x| x.abs()).collect();
            let (b, c) = (random.values(tokens * state), random.values(tokens * state));
            let a: Vec<f32> = random.values(channels * state).iter().map(|x| -4.0 * x.abs()).collect();
            let d = random.values(channels);
            let mut expected = vec![0.0; x.len()];
            for sample in offsets.windows(2) {
                for channel in 0..channels {
                    let mut h = vec![0.0; state];
                    for t in sample[0]..sample[1] {
                        let at = t * channels + channel;
                        let (x, delta) = (f64::from(x[at]), f64::from(delta[at]));
                        expected[at] = f64::from(d[channel]) * x;
                        for n in 0..state {
                            let decay = (delta * f64::from(a[channel * state + n])).exp();
                            h[n] = decay * h[n] + delta * f64::from(b[t * state + n]) * x;
                            expected[at] += f64::from(c[t * state + n]) * h[n];
                        }
                    }
                }
            }
            let scan = SelectiveScan { channels, state, a: &a, d: &d };
            for_each_isa(|isa| {
                let mut y = vec![f32::NAN; x.len()];
                selective_scan(&scan, &x, &delta, &b, &c, &offsets, &mut y);
                assert_close(&y, &expected, 1.0, 2e-6, &format!("{isa} {channels} {state}"));
            });
        }
    }
}
