//! Products of few rows of x, where lanes run along the summed dimension and w is read once, in stored order.

use super::{Arithmetic, F, LINE};
use crate::formats::Rows;
use crate::simd::Simd;

/// Values of a line at most.
const LINE_VALUES: usize = 2 * LINE;

/// `out[i * out_stride + r] = x[i] . w[row + r]` for M rows of x and R rows of w.
///
/// # Safety
/// * M rows of units in whole lines, `lines * 16` units apart, can be read at `x`.
/// * `row + R` is at most the rows of w.
/// * out: R values in each of M rows can be written.
#[inline(always)]
pub(crate) unsafe fn dot_rows<A: Arithmetic, W: Rows, const M: usize, const R: usize>(
    a: A,
    x: *const f32,
    w: &W,
    row: usize,
    out: *mut f32,
    out_stride: usize,
) {
    let (s, lanes, width) = (a.simd(), A::S::LANES, LINE * A::VALUES);
    let (columns, run) = (w.columns(), w.run());
    let x_stride = columns.div_ceil(width) * LINE;
    let mut sums = [[s.splat(0.0); R]; M];
    let mut at = 0;
    // SAFETY: (of this macro's uses) the vectors of w come from rows of w or from a line of values, those of x from
    // the units at the same place, which exist since rows of x are padded to whole lines.
    macro_rules! accumulate {
        ($unit:expr, |$r:ident| $weights:expr) => {
            unsafe {
                let mut units = [s.splat(0.0); M];
                for (i, units) in units.iter_mut().enumerate() {
                    *units = s.load_at(x.add(i * x_stride + $unit));
                }
                for $r in 0..R {
                    let weights: F<A> = $weights;
                    for i in 0..M {
                        sums[i][$r] = a.multiply_add(sums[i][$r], units[i], weights);
                    }
                }
            }
        };
    }
    if run.is_multiple_of(LINE_VALUES) || run >= columns {
        while at + width <= columns {
            let index = at / run;
            let run_end = columns.min((index + 1).saturating_mul(run));
            let scales: [W::Scale<A::S>; R] = std::array::from_fn(|r| w.scale(s, row + r, index));
            while at + width <= run_end {
                for unit in (0..LINE).step_by(lanes) {
                    accumulate!(at / A::VALUES + unit, |r| a.load_weights(
                        w,
                        row + r,
                        at + unit * A::VALUES,
                        scales[r]
                    ));
                }
                at += width;
            }
        }
    }
    while at < columns {
        let length = width.min(columns - at);
        let mut values = [[0.0; LINE_VALUES]; R];
        for (r, values) in values.iter_mut().enumerate() {
            w.widen(row + r, at, &mut values[..length]);
        }
        for unit in (0..LINE).step_by(lanes) {
            accumulate!(at / A::VALUES + unit, |r| a.load(values[r].as_ptr().add(unit * A::VALUES)));
        }
        at += width;
    }
    for (i, sums) in sums.iter().enumerate() {
        for (r, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller vouches for R values in each of M rows.
            unsafe { *out.add(i * out_stride + r) = s.sum(sum) };
        }
    }
}
