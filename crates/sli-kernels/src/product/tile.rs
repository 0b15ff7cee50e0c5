//! The inner tile of matrix products and attention.
//!
//! Lanes are rows of x: x is laid out as `[unit][lane]`, each unit of w is broadcast against all lanes, and the
//! result comes out transposed, `[row of w][lane]`. Weights thus need no transposition at all.

use super::{Arithmetic, F, LINE};
use crate::simd::Simd;

/// Where the units of w are: row `r`, unit `16 * l + q` at `l * line + q * unit + r * ROW`, ROW being a constant of
/// the code.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) line: usize,
    pub(crate) unit: usize,
}

/// What becomes of the products.
#[derive(Clone, Copy)]
pub(crate) enum Combine {
    /// They replace what was there.
    Store,
    /// They are added to it.
    Add,
    /// It is multiplied by a factor for each lane first; the factors are an aligned vector for each vector of lanes.
    ScaleAndAdd(*const f32),
}

/// `out[r][lane] = sum over units of w[r][unit] * x[unit][lane]` for `rows` rows and `vectors` vectors of lanes.
///
/// `ahead(line)` is called once for each line and step of rows, for prefetching.
///
/// # Safety
/// * x: `lines * 16` units of `vectors * LANES` lanes can be read at `x`.
/// * w: every unit of `lines` lines and `rows` rounded up to a multiple of `ACCUMULATORS / vectors` can be read.
/// * out: as many rows of `vectors * LANES` values, `out_stride` apart, can be read and written.
/// * `vectors` is from 1 to `TILE_VECTORS`.
#[inline(always)]
pub(crate) unsafe fn tile<A: Arithmetic, const ROW: usize>(
    a: A,
    vectors: usize,
    rows: usize,
    lines: usize,
    x: *const f32,
    w: *const f32,
    layout: Layout,
    out: *mut f32,
    out_stride: usize,
    combine: Combine,
    ahead: impl Fn(usize, usize),
) {
    macro_rules! sweep {
        ($vectors:literal, $step:literal) => {
            for first in (0..rows).step_by($step) {
                // SAFETY: the caller vouches for all steps of rows.
                unsafe {
                    let (w, out) = (w.add(first * ROW), out.add(first * out_stride));
                    step::<A, $vectors, $step, ROW>(
                        a,
                        lines,
                        x,
                        w,
                        layout,
                        out,
                        out_stride,
                        combine,
                        |line| {
                            ahead(first / $step, line);
                        },
                    );
                }
            }
        };
    }
    match (A::S::ACCUMULATORS, vectors) {
        (24, 1) => sweep!(1, 24),
        (24, 2) => sweep!(2, 12),
        (24, 3) => sweep!(3, 8),
        (24, _) => sweep!(4, 6),
        (12, 1) => sweep!(1, 12),
        (12, _) => sweep!(2, 6),
        _ => sweep!(1, 4),
    }
}

/// A tile of `MV` vectors by `NR` rows, all of it in registers.
/// # Safety
/// As for [`tile`], with NR rows.
#[inline(always)]
unsafe fn step<A: Arithmetic, const MV: usize, const NR: usize, const ROW: usize>(
    a: A,
    lines: usize,
    mut x: *const f32,
    w: *const f32,
    layout: Layout,
    out: *mut f32,
    out_stride: usize,
    combine: Combine,
    ahead: impl Fn(usize),
) {
    let s = a.simd();
    let lanes = A::S::LANES;
    let mut sums = [[s.splat(0.0); MV]; NR];
    for line in 0..lines {
        ahead(line);
        let mut w = w.wrapping_add(line * layout.line);
        for _ in 0..LINE {
            // SAFETY: the caller vouches for the units of every line.
            unsafe {
                let mut lane_units = [s.splat(0.0); MV];
                for (v, units) in lane_units.iter_mut().enumerate() {
                    *units = s.load_at(x.add(v * lanes));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let unit: F<A> = s.splat(*w.add(r * ROW));
                    for v in 0..MV {
                        sums[v] = a.multiply_add(sums[v], lane_units[v], unit);
                    }
                }
                x = x.add(MV * lanes);
            }
            w = w.wrapping_add(layout.unit);
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller vouches for NR rows of MV vectors, and for a factor for each lane.
            unsafe {
                let out = out.add(r * out_stride + v * lanes);
                let total = match combine {
                    Combine::Store => sum,
                    Combine::Add => s.add(s.load_at(out), sum),
                    Combine::ScaleAndAdd(factors) => {
                        s.mul_add(s.load_at(out), s.load_at(factors.add(v * lanes)), sum)
                    }
                };
                s.store_at(out, total);
            }
        }
    }
}
