//! Rounding the inputs of a product to 8 bits (BitNet b1.58).

use rayon::prelude::*;

use crate::isa::{Kernel, dispatch, isa};
use crate::parallel::rows_per_task;
use crate::simd::Simd;

/// The largest whole number that a value becomes, so that it fits in 8 bits.
const LARGEST: f32 = 127.0;
/// What counts as the largest magnitude of rows that have none as large.
const LEAST: f32 = 1e-5;

/// `x = round(x * scale)`, where the `scale` of each row of `width` makes its largest magnitude 127.
///
/// # Panics
/// Where `x` is not a row of `width` for each of `scales`.
pub fn round_rows(x: &mut [f32], width: usize, scales: &mut [f32]) {
    assert_eq!(x.len(), scales.len() * width, "round_rows: not a scale for each row of {width}");
    let (isa, rows) = (isa(), rows_per_task(width));
    x.par_chunks_mut((rows * width).max(1)).zip(scales.par_chunks_mut(rows)).for_each(|(x, scales)| {
        for (x, scale) in x.chunks_exact_mut(width.max(1)).zip(scales) {
            *scale = dispatch(isa, RoundRow { x });
        }
    });
}

struct RoundRow<'a> {
    x: &'a mut [f32],
}

impl Kernel for RoundRow<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut largest = s.splat(LEAST);
        for x in self.x.chunks(S::LANES) {
            largest = s.max(s.abs(s.load_partial(x, 0.0)), largest);
        }
        let scale = LARGEST / s.largest(largest);
        for x in self.x.chunks_mut(S::LANES) {
            let rounded = s.round(s.mul(s.load_partial(x, 0.0), s.splat(scale)));
            s.store_partial(x, rounded);
        }
        scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;

    #[test]
    fn the_largest_magnitude_of_a_row_becomes_127() {
        for_each_isa(|isa| {
            // 37 / 254 lies in the middle of two numbers: the even one is taken.
            let mut x = [0.25, -0.5, 37.0 / 254.0 * 0.5, 0.1, 0.0, 1e-7];
            let mut scales = [0.0; 2];
            round_rows(&mut x, 3, &mut scales);
            assert_eq!(x[..3], [64.0, -127.0, 18.0], "{isa}");
            assert_eq!(x[3..], [127.0, 0.0, 0.0], "{isa}");
            assert_eq!(scales, [254.0, 127.0 / 0.1], "{isa}");
            let mut x: Vec<f32> = (0..21).map(|i| (i - 10) as f32).collect();
            round_rows(&mut x, 21, &mut scales[..1]);
            assert_eq!((x[0], x[15], x[20], scales[0]), (-127.0, 64.0, 127.0, 12.7), "{isa}");
        });
    }
}
