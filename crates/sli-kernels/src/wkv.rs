//! The weighted mean of RWKV-4 (Peng et al. 2023, appendix) over packed samples.

use crate::isa::{Kernel, dispatch, isa};
use crate::math::exp;
use crate::packed::{Part, check_offsets, for_each_part_of_heads};
use crate::scratch::SharedMut;
use crate::simd::Simd;

/// A mean of the values up to each token, channel by channel: an earlier value weighs `e^(k - (n - 1) decay)`, n tokens
/// later, and the token's own `e^(k + bonus)`. `decay` (not negative) and `bonus` are `[channels]`, k, v and y
/// `[tokens, channels]`.
///
/// # Panics
/// Where the lengths do not fit together or the offsets do not run from 0 to tokens.
pub fn wkv(decay: &[f32], bonus: &[f32], k: &[f32], v: &[f32], offsets: &[usize], y: &mut [f32]) {
    let channels = decay.len();
    assert!(bonus.len() == channels && k.len() == y.len() && v.len() == y.len(), "wkv: lengths differ");
    if y.is_empty() {
        return;
    }
    assert!(channels > 0 && y.len().is_multiple_of(channels), "wkv: y is not rows of {channels}");
    check_offsets("wkv", offsets, y.len() / channels);
    let (isa, y) = (isa(), SharedMut::new(y));
    for_each_part_of_heads(offsets, 1, channels, CHANNELS, |part| {
        dispatch(isa, Mean { decay, bonus, k, v, part, y });
    });
}

/// Channels of a task: four cache lines of each row.
const CHANNELS: usize = 64;

/// Larger than any exponent that is left of e^-x = 0.
const NOTHING: f32 = -1e38;

/// A sample's means for some channels.
struct Mean<'a> {
    decay: &'a [f32],
    bonus: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    part: Part,
    y: SharedMut,
}

impl Kernel for Mean<'_> {
    type Output = ();

    /// Lanes are channels. Sums are kept with the largest exponent taken out, so that none overflows.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { decay, bonus, k, v, part: Part { tokens, first, .. }, y } = self;
        let channels = decay.len();
        let count = CHANNELS.min(channels - first);
        for lane in (first..first + count).step_by(S::LANES) {
            let length = S::LANES.min(first + count - lane);
            let load = |values: &[f32], at: usize| s.load_up_to(&values[at..at + length]);
            let (decay, bonus) = (load(decay, lane), load(bonus, lane));
            let (mut values, mut weights, mut largest) = (s.splat(0.0), s.splat(0.0), s.splat(NOTHING));
            for token in tokens.0..tokens.1 {
                let at = token * channels + lane;
                let (k, v) = (load(k, at), load(v, at));
                let (_, past, own) = join(s, largest, s.add(k, bonus));
                let sum = s.mul_add(past, values, s.mul(own, v));
                let mean = s.div(sum, s.mul_add(past, weights, own));
                let (top, past, own) = join(s, s.sub(largest, decay), k);
                values = s.mul_add(past, values, s.mul(own, v));
                weights = s.mul_add(past, weights, own);
                largest = top;
                // SAFETY: no other task writes these channels of this sample.
                let y = unsafe { std::slice::from_raw_parts_mut(y.at(at), length) };
                s.store_up_to(y, mean);
            }
        }
    }
}

/// The larger exponent, and `e^x` of both without it.
#[inline(always)]
fn join<S: Simd>(s: S, past: S::F, own: S::F) -> (S::F, S::F, S::F) {
    let top = s.max(past, own);
    (top, exp(s, s.sub(past, top)), exp(s, s.sub(own, top)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::{Random, assert_close};

    #[test]
    fn means_agree_with_the_sums() {
        let offsets = [0, 3, 3, 20, 21];
        let tokens = 21;
        for (channels, scale) in [(1, 1.0), (5, 60.0), (70, 3.0), (130, 1.0)] {
            let mut random = Random::new(channels as u64);
            let decay: Vec<f32> = random.values(channels).iter().map(|x| x.abs()).collect();
            let bonus = random.values(channels);
            let k: Vec<f32> = random.values(tokens * channels).iter().map(|x| scale * x).collect();
            let v = random.values(tokens * channels);
            let mut expected = vec![0.0; v.len()];
            for sample in offsets.windows(2) {
                for t in sample[0]..sample[1] {
                    for c in 0..channels {
                        let (mut sum, mut weights) = (0.0, 0.0);
                        for i in sample[0]..=t {
                            let key = f64::from(k[i * channels + c]);
                            let weight = match t - i {
                                0 => (key + f64::from(bonus[c])).exp(),
                                n => (key - (n - 1) as f64 * f64::from(decay[c])).exp(),
                            };
                            sum += weight * f64::from(v[i * channels + c]);
                            weights += weight;
                        }
                        expected[t * channels + c] = sum / weights;
                    }
                }
            }
            for_each_isa(|isa| {
                let mut y = vec![f32::NAN; v.len()];
                wkv(&decay, &bonus, &k, &v, &offsets, &mut y);
                assert_close(&y, &expected, 1.0, 1e-5, &format!("{isa} {channels}"));
            });
        }
    }
}
