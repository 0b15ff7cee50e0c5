//! 8-bit floats e4m3 with a scale for each block of rows and columns.

use super::{Encoding, Rows, Storage, for_each_run};
use crate::simd::{Simd, e4m3_to_f32};

#[derive(Clone, Copy)]
pub(crate) struct Fp8Rows<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [f32],
    pub(crate) columns: usize,
    pub(crate) block_rows: usize,
    pub(crate) block_columns: usize,
}

impl Rows for Fp8Rows<'_> {
    type Scale<S: Simd> = S::F;

    fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    fn run(&self) -> usize {
        self.block_columns
    }

    #[inline(always)]
    fn first_scale(&self, row: usize) -> usize {
        row / self.block_rows * self.columns.div_ceil(self.block_columns)
    }

    #[inline(always)]
    fn scale<S: Simd>(&self, simd: S, place: usize) -> S::F {
        // What the codes are divided by comes back here, exactly: it is a power of two.
        simd.splat(self.scales[place] * 256.0)
    }

    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, simd: S, row: usize, column: usize, scale: S::F) -> S::F {
        // SAFETY: the caller vouches for LANES codes from here on in the row.
        let value = unsafe { simd.load_e4m3(self.codes.as_ptr().add(row * self.columns + column)) };
        simd.mul(value, scale)
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
