//! Integers of 8 or 4 bits with a scale and a zero point for each group of columns.

use super::{Encoding, Rows, Storage, for_each_run};
use crate::simd::Simd;

/// `i8`: one value a byte. `u8`: two values a byte, the even column in the low half.
#[derive(Clone, Copy)]
pub(crate) struct IntRows<'a, T> {
    pub(crate) codes: &'a [T],
    pub(crate) scales: &'a [f32],
    pub(crate) zero_points: Option<&'a [f32]>,
    pub(crate) columns: usize,
    pub(crate) group: usize,
}

pub(crate) trait Code: Copy + Send + Sync {
    const PER_BYTE: usize;
    /// The zero point of formats that store none.
    const MIDDLE: f32;

    /// The value at `column` of a row that begins at `row[0]`.
    fn value(row: &[Self], column: usize) -> f32;

    /// # Safety
    /// `LANES` values can be read at `p`.
    unsafe fn load<S: Simd>(simd: S, p: *const Self) -> S::F;
}

impl Code for i8 {
    const PER_BYTE: usize = 1;
    const MIDDLE: f32 = 0.0;

    #[inline(always)]
    fn value(row: &[i8], column: usize) -> f32 {
        f32::from(row[column])
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const i8) -> S::F {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe { simd.load_i8(p) }
    }
}

impl Code for u8 {
    const PER_BYTE: usize = 2;
    const MIDDLE: f32 = 8.0;

    #[inline(always)]
    fn value(row: &[u8], column: usize) -> f32 {
        f32::from(row[column / 2] >> (4 * (column % 2)) & 15)
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const u8) -> S::F {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe { simd.load_u4(p) }
    }
}

impl<T: Code> IntRows<'_, T> {
    /// Elements of `codes` that a row takes.
    #[inline(always)]
    fn stride(&self) -> usize {
        self.columns.div_ceil(T::PER_BYTE)
    }

    /// (scale, zero point) of a group.
    #[inline(always)]
    fn affine(&self, place: usize) -> (f32, f32) {
        (self.scales[place], self.zero_points.map_or(T::MIDDLE, |zero_points| zero_points[place]))
    }
}

impl<T: Code> Rows for IntRows<'_, T> {
    type Scale<S: Simd> = (S::F, S::F);

    fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    fn run(&self) -> usize {
        self.group
    }

    #[inline(always)]
    fn first_scale(&self, row: usize) -> usize {
        row * self.columns.div_ceil(self.group)
    }

    #[inline(always)]
    fn scale<S: Simd>(&self, simd: S, place: usize) -> (S::F, S::F) {
        let (scale, zero_point) = self.affine(place);
        (simd.splat(scale), simd.splat(zero_point))
    }

    #[inline(always)]
    unsafe fn vector<S: Simd>(
        &self,
        simd: S,
        row: usize,
        column: usize,
        (scale, zero_point): (S::F, S::F),
    ) -> S::F {
        // SAFETY: the caller vouches for LANES values from here on in the row, and for an even column.
        let code =
            unsafe { T::load(simd, self.codes.as_ptr().add(row * self.stride() + column / T::PER_BYTE)) };
        simd.mul(simd.sub(code, zero_point), scale)
    }

    #[inline(always)]
    fn widen(&self, row: usize, column: usize, out: &mut [f32]) {
        let codes = &self.codes[row * self.stride()..(row + 1) * self.stride()];
        for_each_run(column, self.group, out, |run, column, out| {
            let (scale, zero_point) = self.affine(self.first_scale(row) + run);
            for (i, out) in out.iter_mut().enumerate() {
                *out = (T::value(codes, column + i) - zero_point) * scale;
            }
        });
    }

    #[inline(always)]
    fn storage(&self) -> Storage {
        Storage {
            start: self.codes.as_ptr().cast(),
            pitch: self.stride(),
            bits: 8 / T::PER_BYTE,
            encoding: Encoding::Other,
        }
    }
}
