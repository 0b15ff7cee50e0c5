//! Products of up to eight rows of x with weights that have to be decoded: in registers, on the way into the sums. More
//! rows are worth a detour of the decoded weights over memory.

use rayon::prelude::*;

use super::Activations;
use super::few::{CHUNK, prepare};
use crate::formats::{Rows, Storage};
use crate::isa::Isa;
use crate::product::{
    Arithmetic, F, Geometry, LINE, Precision, ProductKernel, dispatch_product, prefetch, runs_are_lines,
};
use crate::scratch::SharedMut;
use crate::simd::Simd;

/// Rows of x at most.
const MOST: usize = 8;
/// Bytes that are prefetched at a time.
const CACHE_LINE: usize = 64;

/// Whether [`multiply`] takes `m` rows of x and these weights.
pub(super) fn suits<R: Rows>(isa: Isa, precision: Precision, m: usize, w: &R) -> bool {
    struct Suits<'a, R>(&'a R);
    impl<R: Rows> ProductKernel for Suits<'_, R> {
        type Output = bool;
        #[inline(always)]
        fn run<A: Arithmetic>(self, _a: A) -> bool {
            runs_are_lines::<A, R>(self.0)
        }
    }
    let stored = Geometry::of(isa, precision).stores(w.storage().encoding, precision);
    m <= MOST && !stored && dispatch_product(isa, precision, Suits(w))
}

/// `y = x W^T (+ bias)`.
pub(super) fn multiply<R: Rows>(
    isa: Isa,
    precision: Precision,
    x: Activations,
    w: &R,
    bias: Option<&[f32]>,
    y: &mut [f32],
    n: usize,
) {
    let m = y.len() / n;
    let (units, stride) = prepare(isa, precision, x, m, m.next_power_of_two(), w.columns());
    let (x, y) = (units.as_slice(), SharedMut::new(y));
    // Rounding every weight would take longer than its products.
    let precision = if Geometry::of(isa, precision).values == 1 { Precision::F32 } else { precision };
    (0..n.div_ceil(CHUNK)).into_par_iter().for_each(|chunk| {
        let (first, end) = (chunk * CHUNK, n.min((chunk + 1) * CHUNK));
        dispatch_product(isa, precision, Task { x, stride, m, w, bias, first, end, n, y });
    });
}

/// The columns `first..end` of y.
struct Task<'a, R> {
    /// Rows of units, `stride` apart, filled up with rows of zeros to a power of two.
    x: &'a [f32],
    stride: usize,
    m: usize,
    w: &'a R,
    bias: Option<&'a [f32]>,
    first: usize,
    end: usize,
    n: usize,
    y: SharedMut,
}

impl<R: Rows> ProductKernel for Task<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, a: A) {
        match self.m {
            1 => self.all_rows::<A, 1, 4>(a),
            2 => self.all_rows::<A, 2, 4>(a),
            3 | 4 => self.all_rows::<A, 4, 4>(a),
            _ => self.all_rows::<A, MOST, 2>(a),
        }
    }
}

impl<R: Rows> Task<'_, R> {
    /// The products of `M` rows of x with all rows of w, `N` at a time.
    #[inline(always)]
    fn all_rows<A: Arithmetic, const M: usize, const N: usize>(&self, a: A) {
        for row in (self.first..self.end).step_by(N) {
            self.rows::<A, M, N>(a, row);
        }
    }

    /// The products of `M` rows of x with `N` rows of w from `row` on.
    #[inline(always)]
    fn rows<A: Arithmetic, const M: usize, const N: usize>(&self, a: A, row: usize) {
        let (s, w, width) = (a.simd(), *self.w, LINE * A::VALUES);
        let Storage { start, pitch, bits, .. } = w.storage();
        // Past the end the last row is repeated, and what comes of it is not used.
        let rows: [usize; N] = std::array::from_fn(|r| (row + r).min(self.end - 1));
        let firsts = rows.map(|row| w.first_scale(row));
        let lines = w.columns() / width;
        let step = if R::TWO_AT_ONCE { 2 * A::S::LANES } else { A::S::LANES };
        let mut sums = [[s.splat(0.0); M]; N];
        let run_lines = (w.run::<A>() / width).clamp(1, lines.max(1));
        for (run, first) in (0..lines).step_by(run_lines).enumerate() {
            let mut scales = [w.scale(a, firsts[0], run); N];
            for r in 1..N {
                scales[r] = w.scale(a, firsts[r], run);
            }
            let end = lines.min(first + run_lines) * LINE;
            for unit in (first * LINE..end).step_by(step) {
                let offset = unit * A::VALUES * bits / 8;
                if offset % CACHE_LINE < step * A::VALUES * bits / 8 {
                    for r in 0..N {
                        // Rows are far apart: the hardware does not foresee the next ones.
                        prefetch(start.wrapping_add((row + N + r) * pitch + offset));
                    }
                }
                for r in 0..N {
                    // SAFETY: the units lie within w and in the run, since `runs_are_lines`.
                    unsafe {
                        if R::TWO_AT_ONCE && unit + step <= end {
                            let [w, next] = w.two_units(a, rows[r], unit * A::VALUES, scales[r]);
                            self.add::<A, M>(a, unit, w, &mut sums[r]);
                            self.add::<A, M>(a, unit + A::S::LANES, next, &mut sums[r]);
                        } else {
                            let w = w.units(a, rows[r], unit * A::VALUES, scales[r]);
                            self.add::<A, M>(a, unit, w, &mut sums[r]);
                        }
                    }
                }
            }
        }
        if lines * width < w.columns() {
            for r in 0..N {
                let mut values = [0.0; 2 * LINE];
                w.widen(rows[r], lines * width, &mut values[..w.columns() - lines * width]);
                for unit in (0..LINE).step_by(A::S::LANES) {
                    // SAFETY: `values` is a line.
                    let w = unsafe { a.load(values.as_ptr().add(unit * A::VALUES)) };
                    self.add::<A, M>(a, lines * LINE + unit, w, &mut sums[r]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate().take(self.end - row) {
            let bias = self.bias.map_or(0.0, |bias| bias[row + r]);
            for (i, &sum) in sums.iter().enumerate().take(self.m) {
                // SAFETY: this column of y belongs to this task.
                unsafe { *self.y.at(i * self.n + row + r) = s.sum(sum) + bias };
            }
        }
    }

    /// Adds the products of a vector of units of w.
    #[inline(always)]
    fn add<A: Arithmetic, const M: usize>(&self, a: A, unit: usize, w: F<A>, sums: &mut [F<A>; M]) {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: x has at least M rows of whole lines, as many as w.
            let x = unsafe { a.simd().load_at(self.x.as_ptr().add(i * self.stride + unit)) };
            *sum = a.multiply_add(*sum, x, w);
        }
    }
}
