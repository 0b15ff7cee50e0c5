//! 8-bit floats e4m3 with a scale for each block of rows and columns.

use super::{Encoding, Rows, Storage, for_each_run};
use crate::product::{Arithmetic, F};
use crate::simd::{Simd, e4m3_to_f32};

#[derive(Clone, Copy)]
pub(crate) struct Fp8Rows<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [f32],
    pub(crate) columns: usize,
    pub(crate) block_rows: usize,
    pub(crate) block_columns: usize,
}

impl Fp8Rows<'_> {
    /// The values at `column..column + 2 * LANES`.
    /// # Safety
    /// As for [`Rows::units`].
    #[inline(always)]
    unsafe fn two_vectors<S: Simd>(&self, s: S, row: usize, column: usize, scale: S::F) -> [S::F; 2] {
        // SAFETY: the caller vouches for so many codes from here on in the row.
        let [first, second] =
            unsafe { s.load_two_e4m3(self.codes.as_ptr().add(row * self.columns + column)) };
        [s.mul(first, scale), s.mul(second, scale)]
    }
}

impl Rows for Fp8Rows<'_> {
    const TWO_AT_ONCE: bool = true;

    type Scale<A: Arithmetic> = F<A>;

    fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    fn run<A: Arithmetic>(&self) -> usize {
        self.block_columns
    }

    #[inline(always)]
    fn first_scale(&self, row: usize) -> usize {
        row / self.block_rows * self.columns.div_ceil(self.block_columns)
    }

    #[inline(always)]
    fn scale<A: Arithmetic>(&self, a: A, first: usize, run: usize) -> F<A> {
        // What the codes are divided by comes back here, exactly: it is a power of two.
        a.simd().splat(self.scales[first + run] * 256.0)
    }

    #[inline(always)]
    unsafe fn units<A: Arithmetic>(&self, a: A, row: usize, column: usize, scale: F<A>) -> F<A> {
        let s = a.simd();
        // SAFETY: the caller vouches for the values.
        unsafe {
            if A::VALUES == 1 {
                let value = s.mul(s.load_e4m3(self.codes.as_ptr().add(row * self.columns + column)), scale);
                return a.round(value, value);
            }
            let [first, second] = self.two_vectors(s, row, column, scale);
            a.round(first, second)
        }
    }

    #[inline(always)]
    unsafe fn two_units<A: Arithmetic>(&self, a: A, row: usize, column: usize, scale: F<A>) -> [F<A>; 2] {
        // SAFETY: the caller vouches for the values.
        unsafe {
            if A::VALUES == 1 {
                let [first, second] = self.two_vectors(a.simd(), row, column, scale);
                return [a.round(first, first), a.round(second, second)];
            }
            [self.units(a, row, column, scale), self.units(a, row, column + 2 * A::S::LANES, scale)]
        }
    }

    #[inline(always)]
    fn widen(&self, row: usize, column: usize, out: &mut [f32]) {
        for_each_run(column, self.block_columns, out, |run, column, out| {
            let first = row * self.columns + column;
            let scale = self.scales[self.first_scale(row) + run];
            for (out, &code) in out.iter_mut().zip(&self.codes[first..]) {
                *out = e4m3_to_f32(code) * scale;
            }
        });
    }

    #[inline(always)]
    fn storage(&self) -> Storage {
        Storage { start: self.codes.as_ptr(), pitch: self.columns, bits: 8, encoding: Encoding::Other }
    }
}
