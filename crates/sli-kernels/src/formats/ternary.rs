//! -1, 0 and 1 with a scale for the whole matrix (BitNet b1.58): 2 bits a value, four rows in a row of bytes.

use super::{Encoding, Rows, Storage};
use crate::product::{Arithmetic, F};
use crate::simd::Simd;

/// Rows that share their bytes.
pub(crate) const PER_BYTE: usize = 4;

#[derive(Clone, Copy)]
pub(crate) struct TernaryRows<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scale: f32,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl TernaryRows<'_> {
    /// Where the codes of a row begin, and the bit of each byte at which they do.
    #[inline(always)]
    fn place(&self, row: usize) -> (usize, u32) {
        let lines = self.rows.div_ceil(PER_BYTE);
        (row % lines * self.columns, 2 * (row / lines) as u32)
    }

    /// # Safety
    /// As for [`Rows::units`], for `LANES` values.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, s: S, row: usize, column: usize, scale: S::F) -> S::F {
        let (start, bit) = self.place(row);
        // SAFETY: the caller vouches for LANES values from here on in the row.
        let code = unsafe { s.load_pairs_of_bits(self.codes.as_ptr().add(start + column), bit) };
        s.mul(s.sub(code, s.splat(1.0)), scale)
    }
}

impl Rows for TernaryRows<'_> {
    type Scale<A: Arithmetic> = F<A>;

    fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    fn run<A: Arithmetic>(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    fn first_scale(&self, _row: usize) -> usize {
        0
    }

    #[inline(always)]
    fn scale<A: Arithmetic>(&self, a: A, _first: usize, _run: usize) -> F<A> {
        a.simd().splat(self.scale)
    }

    #[inline(always)]
    unsafe fn units<A: Arithmetic>(&self, a: A, row: usize, column: usize, scale: F<A>) -> F<A> {
        // SAFETY: the caller vouches for the values.
        unsafe {
            let first = self.vector(a.simd(), row, column, scale);
            if A::VALUES == 1 {
                return a.round(first, first);
            }
            a.round(first, self.vector(a.simd(), row, column + A::S::LANES, scale))
        }
    }

    #[inline(always)]
    fn widen(&self, row: usize, column: usize, out: &mut [f32]) {
        let (start, bit) = self.place(row);
        for (out, byte) in out.iter_mut().zip(&self.codes[start + column..]) {
            *out = (f32::from(byte >> bit & 3) - 1.0) * self.scale;
        }
    }

    #[inline(always)]
    fn storage(&self) -> Storage {
        Storage { start: self.codes.as_ptr(), pitch: self.columns, bits: 8, encoding: Encoding::Other }
    }
}
