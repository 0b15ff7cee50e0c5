//! The inner tile of matrix products and attention.
//!
//! Lanes are rows of x: x is laid out as `[unit][lane]`, each unit of w is broadcast against all lanes, and the
//! result comes out transposed, `[row of w][lane]`. Weights thus need no transposition at all.

use std::ops::Range;

use super::{Arithmetic, GROUP, LINE, Precision, ProductKernel, dispatch_product};
use crate::isa::Isa;
use crate::simd::Simd;

/// Where the units of w are.
#[derive(Clone, Copy)]
pub(crate) enum Layout {
    /// Lines of 24 rows of 16 units, `[line][24][16]`.
    Grouped,
    /// `[unit][row]`, with this distance between units.
    ByUnit(usize),
}

/// What becomes of the products.
#[derive(Clone, Copy)]
pub(crate) enum Combine {
    /// They replace what was there.
    Store,
    /// They are added to it.
    Add,
    /// It is multiplied by a factor for each lane first.
    ScaleAndAdd(*const f32),
}

/// Lines of rows in memory: row `r`, line `l` is `r * pitch + l * line` bytes after `start`.
#[derive(Clone, Copy)]
pub(crate) struct Lines {
    pub(crate) start: *const u8,
    pub(crate) pitch: usize,
    pub(crate) line: usize,
}

impl Lines {
    #[inline(always)]
    pub(super) fn at(self, row: usize, line: usize) -> *const u8 {
        self.start.wrapping_add(row * self.pitch + line * self.line)
    }
}

/// What a tile does on the side for those that follow, line by line, while the arithmetic units are busy.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ahead {
    /// Brings lines into the second-level cache, wherever they are.
    pub(crate) prefetch: Option<Lines>,
    /// Copies 24 rows of units, as many lines as the tile has, to a place laid out as [`Layout::Grouped`].
    pub(crate) copy: Option<(Lines, *mut f32)>,
}

impl Ahead {
    /// # Safety
    /// The lines of `copy` can be read and written.
    #[inline(always)]
    unsafe fn work<S: Simd>(self, s: S, rows: Range<usize>, line: usize) {
        if let Some(lines) = self.prefetch {
            rows.clone().for_each(|row| prefetch(lines.at(row, line)));
        }
        if let Some((lines, to)) = self.copy {
            for row in rows {
                for unit in (0..LINE).step_by(S::LANES) {
                    // SAFETY: the caller vouches for all lines.
                    unsafe {
                        let units = s.load_at(lines.at(row, line).cast::<f32>().add(unit));
                        s.store_at(to.add((line * GROUP + row) * LINE + unit), units);
                    }
                }
            }
        }
    }
}

/// Asks for a cache line that will be needed soon.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch accepts any address; SSE is part of the baseline.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// `out[r][lane] = sum over units of w[r][unit] * x[unit][lane]`.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Lanes, a multiple of `LANES` up to `LANES * TILE_VECTORS`.
    pub(crate) lanes: usize,
    /// Rows of w.
    pub(crate) rows: usize,
    /// Lines of units that are summed over.
    pub(crate) lines: usize,
    pub(crate) x: *const f32,
    pub(crate) w: *const f32,
    pub(crate) layout: Layout,
    pub(crate) out: *mut f32,
    /// Distance between rows of `out`.
    pub(crate) stride: usize,
    pub(crate) combine: Combine,
    pub(crate) ahead: Ahead,
}

impl Tile {
    /// Computes the tile; `isa` must be available.
    ///
    /// # Safety
    /// All units of `lines` lines can be read: of `lanes` lanes at `x`, of `rows` rounded up to a multiple of 24 at
    /// `w`. As many rows of `lanes` values can be read and written at `out`. Factors of [`Combine::ScaleAndAdd`] can
    /// be read for all lanes. The lines of [`Ahead::copy`] can be read and written; there `rows` is 24.
    pub(crate) unsafe fn run(self, isa: Isa, precision: Precision) {
        /// A tile whose pointers the caller of `run` has vouched for.
        struct Vouched(Tile);
        impl ProductKernel for Vouched {
            type Output = ();
            #[inline(always)]
            fn run<A: Arithmetic>(self, a: A) {
                match self.0.layout {
                    Layout::Grouped => sweep::<A, LINE>(a, self.0, GROUP * LINE, 1),
                    Layout::ByUnit(unit) => sweep::<A, 1>(a, self.0, LINE * unit, unit),
                }
            }
        }
        dispatch_product(isa, precision, Vouched(self));
    }
}

/// Covers the tile by steps of rows. Row `r`, unit `16 * l + q` of w is at `l * line + q * unit + r * ROW`.
#[inline(always)]
fn sweep<A: Arithmetic, const ROW: usize>(a: A, tile: Tile, line: usize, unit: usize) {
    macro_rules! steps {
        ($vectors:literal, $rows:literal) => {
            for first in (0..tile.rows).step_by($rows) {
                // SAFETY: the caller of `Tile::run` has vouched for rows up to a multiple of 24, which every step
                // divides.
                unsafe { step::<A, $vectors, $rows, ROW>(a, tile, first, line, unit) };
            }
        };
    }
    let vectors = tile.lanes / A::S::LANES;
    if A::S::ACCUMULATORS == 24 {
        match vectors {
            1 => steps!(1, 24),
            2 => steps!(2, 12),
            3 => steps!(3, 8),
            _ => steps!(4, 6),
        }
    } else if A::S::ACCUMULATORS == 12 {
        match vectors {
            1 => steps!(1, 12),
            _ => steps!(2, 6),
        }
    } else {
        steps!(1, 4);
    }
}

/// `MV` vectors by `NR` rows from `first` on, all of it in registers.
/// # Safety
/// See [`Tile::run`], for these rows.
#[inline(always)]
unsafe fn step<A: Arithmetic, const MV: usize, const NR: usize, const ROW: usize>(
    a: A,
    tile: Tile,
    first: usize,
    line_stride: usize,
    unit_stride: usize,
) {
    let (s, lanes) = (a.simd(), A::S::LANES);
    let mut sums = [[s.splat(0.0); MV]; NR];
    let mut x = tile.x;
    for line in 0..tile.lines {
        // SAFETY: vouched for.
        unsafe { tile.ahead.work(s, first..first + NR, line) };
        let mut w = tile.w.wrapping_add(line * line_stride + first * ROW);
        for _ in 0..LINE {
            // SAFETY: the caller vouches for the units of every line.
            unsafe {
                let mut units = [s.splat(0.0); MV];
                for (v, units) in units.iter_mut().enumerate() {
                    *units = s.load_at(x.add(v * lanes));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let unit = s.splat(*w.add(r * ROW));
                    for v in 0..MV {
                        sums[v] = a.multiply_add(sums[v], units[v], unit);
                    }
                }
                x = x.add(MV * lanes);
            }
            w = w.wrapping_add(unit_stride);
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller vouches for NR rows of MV vectors, and for a factor for each lane.
            unsafe {
                let out = tile.out.add((first + r) * tile.stride + v * lanes);
                let total = match tile.combine {
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
