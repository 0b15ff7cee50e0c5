//! Softmax over rows.

use crate::isa::{Kernel, dispatch, isa};
use crate::math::exp;
use crate::parallel::for_each_part;
use crate::simd::Simd;

/// Replaces each row of `width` by its softmax, `e^(x - max) / sum`.
///
/// # Panics
/// Where `x` is not a whole number of rows.
pub fn softmax_rows(x: &mut [f32], width: usize) {
    struct Softmax<'a>(&'a mut [f32], usize);
    impl Kernel for Softmax<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for row in self.0.chunks_exact_mut(self.1) {
                let most = largest(s, row);
                let sum = exponentials(s, row, most);
                let factor = 1.0 / sum;
                row.iter_mut().for_each(|x| *x *= factor);
            }
        }
    }
    if x.is_empty() {
        return;
    }
    assert!(
        width > 0 && x.len().is_multiple_of(width),
        "softmax: {} values are not rows of {width}",
        x.len()
    );
    let isa = isa();
    for_each_part(x, width, |_, x| dispatch(isa, Softmax(x, width)));
}

/// The largest value of a row, negative infinity for an empty one.
#[inline(always)]
pub(crate) fn largest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut most = [s.splat(f32::NEG_INFINITY); 4];
    let mut fours = x.chunks_exact(4 * S::LANES);
    for four in &mut fours {
        for (most, x) in most.iter_mut().zip(four.chunks_exact(S::LANES)) {
            *most = s.max(s.load(x), *most);
        }
    }
    for x in fours.remainder().chunks(S::LANES) {
        most[0] = s.max(s.load_partial(x, f32::NEG_INFINITY), most[0]);
    }
    s.largest(s.max(s.max(most[0], most[1]), s.max(most[2], most[3])))
}

/// Replaces each value by `e^(x - most)` and gives their sum.
#[inline(always)]
fn exponentials<S: Simd>(s: S, x: &mut [f32], most: f32) -> f32 {
    let center = s.splat(most);
    let mut sums = [s.splat(0.0); 2];
    let mut pairs = x.chunks_exact_mut(2 * S::LANES);
    for pair in &mut pairs {
        for (sum, x) in sums.iter_mut().zip(pair.chunks_exact_mut(S::LANES)) {
            let e = exp(s, s.sub(s.load(x), center));
            *sum = s.add(*sum, e);
            s.store(x, e);
        }
    }
    for x in pairs.into_remainder().chunks_mut(S::LANES) {
        let e = exp(s, s.sub(s.load_partial(x, f32::NEG_INFINITY), center));
        sums[0] = s.add(sums[0], e);
        s.store_partial(x, e);
    }
    s.sum(s.add(sums[0], sums[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::{Random, assert_close};

    #[test]
    fn rows_agree_with_f64() {
        for (rows, width) in [(1, 1), (4, 5), (3, 16), (2, 100), (40, 1000), (1, 40_001)] {
            let x: Vec<f32> = Random::new(9).values(rows * width).iter().map(|x| x * 30.0).collect();
            let expected: Vec<f64> = x
                .chunks(width)
                .flat_map(|row| {
                    let most = row.iter().fold(f32::MIN, |a, &b| a.max(b));
                    let e: Vec<f64> = row.iter().map(|&x| f64::from(x - most).exp()).collect();
                    let sum: f64 = e.iter().sum();
                    e.into_iter().map(move |e| e / sum)
                })
                .collect();
            for_each_isa(|isa| {
                let mut y = x.clone();
                softmax_rows(&mut y, width);
                assert_close(&y, &expected, 1.0, 5e-7, &format!("{isa} [{rows}, {width}]"));
            });
        }
    }

    #[test]
    fn masked_values_get_nothing() {
        for_each_isa(|_| {
            let mut x = [1.0, f32::NEG_INFINITY, 1.0];
            softmax_rows(&mut x, 3);
            assert_eq!(x, [0.5, 0.0, 0.5]);
        });
    }
}
