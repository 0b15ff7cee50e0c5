//! Depthwise causal convolution over packed samples.

use crate::isa::{Kernel, dispatch, isa};
use crate::packed::check_offsets;
use crate::parallel::for_each_part;
use crate::simd::Simd;

/// `y[t, c] = sum over j of weight[c, j] * x[t - width + 1 + j, c] + bias[c]`, with zeros before the start of each
/// sample. x and y are `[tokens, channels]`, weight is `[channels, width]`.
///
/// # Panics
/// Where the lengths do not fit together or the offsets do not run from 0 to tokens.
pub fn causal_conv1d(
    x: &[f32],
    channels: usize,
    weight: &[f32],
    width: usize,
    bias: Option<&[f32]>,
    offsets: &[usize],
    y: &mut [f32],
) {
    assert_eq!(x.len(), y.len(), "causal_conv1d: lengths differ");
    assert_eq!(weight.len(), channels * width, "causal_conv1d: the weight is not [{channels}, {width}]");
    assert!(
        bias.is_none_or(|bias| bias.len() == channels),
        "causal_conv1d: bias does not have {channels} values"
    );
    if y.is_empty() {
        return;
    }
    assert!(channels > 0 && x.len().is_multiple_of(channels), "causal_conv1d: x is not rows of {channels}");
    check_offsets("causal_conv1d", offsets, x.len() / channels);
    // [width, channels], so that channels are the inner dimension everywhere.
    let taps: Vec<f32> = (0..width).flat_map(|j| (0..channels).map(move |c| weight[c * width + j])).collect();
    let isa = isa();
    for_each_part(y, channels, |first, y| {
        dispatch(isa, Conv { x, channels, taps: &taps, bias, offsets, first, y })
    });
}

struct Conv<'a> {
    x: &'a [f32],
    channels: usize,
    taps: &'a [f32],
    bias: Option<&'a [f32]>,
    offsets: &'a [usize],
    /// The token of the first row of `y`.
    first: usize,
    y: &'a mut [f32],
}

impl Kernel for Conv<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Self { x, channels, taps, bias, offsets, first, y } = self;
        let mut sample = offsets.partition_point(|&offset| offset <= first) - 1;
        for (token, y) in (first..).zip(y.chunks_exact_mut(channels)) {
            while offsets[sample + 1] <= token {
                sample += 1;
            }
            match bias {
                Some(bias) => y.copy_from_slice(bias),
                None => y.fill(0.0),
            }
            let before = token - offsets[sample];
            for (taps, back) in taps.rchunks_exact(channels).zip(0..=before) {
                let x = &x[(token - back) * channels..][..channels];
                for ((y, tap), x) in y.iter_mut().zip(taps).zip(x) {
                    *y += tap * x;
                }
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
    fn samples_do_not_see_each_other() {
        for (channels, width) in [(1, 1), (5, 4), (300, 4), (17, 3)] {
            let offsets = [0, 1, 1, 6, 40, 150];
            let mut random = Random::new(1);
            let x = random.values(150 * channels);
            let (weight, bias) = (random.values(channels * width), random.values(channels));
            let mut expected = Vec::new();
            for sample in offsets.windows(2) {
                for t in sample[0]..sample[1] {
                    for c in 0..channels {
                        let mut sum = f64::from(bias[c]);
                        for j in 0..width {
                            if t + j + 1 >= sample[0] + width {
                                let x = x[(t + j + 1 - width) * channels + c];
                                sum += f64::from(weight[c * width + j]) * f64::from(x);
                            }
                        }
                        expected.push(sum);
                    }
                }
            }
            for_each_isa(|isa| {
                let mut y = vec![0.0; x.len()];
                causal_conv1d(&x, channels, &weight, width, Some(&bias), &offsets, &mut y);
                assert_close(&y, &expected, 1.0, 5e-7, &format!("{isa} {channels} {width}"));
            });
        }
    }
}
