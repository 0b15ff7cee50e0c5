//! Products of few rows of x, where lanes run along the summed dimension.

use super::tile::{Lines, prefetch};
use super::{Arithmetic, LINE};
use crate::simd::Simd;

/// Rows of w that are dotted with `m` rows of x at a time, so that all sums stay in registers. 96 is a multiple.
pub(crate) const fn dot_rows(m: usize) -> usize {
    match m {
        1 => 8,
        2 => 6,
        3 | 5 | 6 => 4,
        4 | 7 | 8 => 3,
        _ => panic!("more rows than a dot product takes"),
    }
}

/// `sums[i][r] += x[i] . w[r]` for all [`dot_rows`] rows of w, lane by lane.
#[derive(Clone, Copy)]
pub(crate) struct Dot {
    /// Rows of x, from 1 to 8.
    pub(crate) m: usize,
    /// Lines of units that are summed over.
    pub(crate) lines: usize,
    pub(crate) x: *const f32,
    /// Distance between rows of x.
    pub(crate) x_stride: usize,
    pub(crate) w: *const u8,
    /// Distance between rows of w in bytes; units need no alignment.
    pub(crate) w_stride: usize,
    /// `[m][dot_rows(m)]` vectors, 16 values apart.
    pub(crate) sums: *mut f32,
    /// As many rows and lines, to bring into the second-level cache meanwhile.
    pub(crate) prefetch: Option<Lines>,
}

impl Dot {
    /// # Safety
    /// All units of `lines` lines of m rows of x and `dot_rows(m)` rows of w can be read, all sums read and written.
    #[inline(always)]
    pub(crate) unsafe fn run<A: Arithmetic>(self, a: A) {
        // SAFETY: passed on to the caller; R is `dot_rows(M)`.
        unsafe {
            match self.m {
                1 => self.accumulate::<A, 1, { dot_rows(1) }>(a),
                2 => self.accumulate::<A, 2, { dot_rows(2) }>(a),
                3 => self.accumulate::<A, 3, { dot_rows(3) }>(a),
                4 => self.accumulate::<A, 4, { dot_rows(4) }>(a),
                5 => self.accumulate::<A, 5, { dot_rows(5) }>(a),
                6 => self.accumulate::<A, 6, { dot_rows(6) }>(a),
                7 => self.accumulate::<A, 7, { dot_rows(7) }>(a),
                _ => self.accumulate::<A, 8, { dot_rows(8) }>(a),
            }
        }
    }

    #[inline(always)]
    unsafe fn accumulate<A: Arithmetic, const M: usize, const R: usize>(self, a: A) {
        let s = a.simd();
        let mut sums = [[s.splat(0.0); M]; R];
        for unit in (0..self.lines * LINE).step_by(A::S::LANES) {
            if let Some(lines) = self.prefetch
                && unit.is_multiple_of(LINE)
            {
                (0..R).for_each(|r| prefetch(lines.at(r, unit / LINE)));
            }
            let mut x = [s.splat(0.0); M];
            for (i, x) in x.iter_mut().enumerate() {
                // SAFETY: the caller vouches for the units of x.
                *x = unsafe { s.load_at(self.x.add(i * self.x_stride + unit)) };
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller vouches for the units of w.
                let w = unsafe { s.load_at(self.w.add(r * self.w_stride).cast::<f32>().add(unit)) };
                for i in 0..M {
                    sums[i] = a.multiply_add(sums[i], x[i], w);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (i, &sum) in sums.iter().enumerate() {
                // SAFETY: the caller vouches for the sums.
                unsafe {
                    let place = self.sums.add((i * R + r) * LINE);
                    s.store_at(place, s.add(s.load_at(place), sum));
                }
            }
        }
    }
}
