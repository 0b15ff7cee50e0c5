//! Signed 8-bit integers with a scale and a zero point for each group of columns.

use super::{Encoding, Rows, Storage, ZeroPoints, for_each_run};
use crate::product::{Arithmetic, F};
use crate::simd::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Int8Rows<'a, Z> {
    pub(crate) codes: &'a [i8],
    pub(crate) scales: &'a [f32],
    pub(crate) zero_points: Z,
    pub(crate) columns: usize,
    pub(crate) group: usize,
}

impl<Z: ZeroPoints> Int8Rows<'_, Z> {
    /// (scale, zero point) of a group.
    #[inline(always)]
    fn affine(&self, place: usize) -> (f32, f32) {
        (self.scales[place], self.zero_points.of(place))
    }

    /// # Safety
    /// As for [`Rows::units`], for `LANES` values.
    #[inline(always)]
    unsafe fn vector<S: Simd>(
        &self,
        s: S,
        row: usize,
        column: usize,
        (scale, zero_point): (S::F, S::F),
    ) -> S::F {
        // SAFETY: the caller vouches for LANES values from here on in the row.
        let code = unsafe { s.load_i8(self.codes.as_ptr().add(row * self.columns + column)) };
        s.mul(s.sub(code, zero_point), scale)
    }
}

impl<Z: ZeroPoints> Rows for Int8Rows<'_, Z> {
    type Scale<A: Arithmetic> = (F<A>, F<A>);

    fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    fn run<A: Arithmetic>(&self) -> usize {
        self.group
    }

    #[inline(always)]
    fn first_scale(&self, row: usize) -> usize {
        row * self.columns.div_ceil(self.group)
    }

    #[inline(always)]
    fn scale<A: Arithmetic>(&self, a: A, first: usize, run: usize) -> (F<A>, F<A>) {
        let (scale, zero_point) = self.affine(first + run);
        (a.simd().splat(scale), a.simd().splat(zero_point))
    }

    #[inline(always)]
    unsafe fn units<A: Arithmetic>(&self, a: A, row: usize, column: usize, scale: (F<A>, F<A>)) -> F<A> {
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
        for_each_run(column, self.group, out, |group, column, out| {
            let (scale, zero_point) = self.affine(self.first_scale(row) + group);
            for (out, &code) in out.iter_mut().zip(&self.codes[row * self.columns + column..]) {
                *out = (f32::from(code) - zero_point) * scale;
            }
        });
    }

    #[inline(always)]
    fn storage(&self) -> Storage {
        let start = self.codes.as_ptr().cast();
        Storage { start, pitch: self.columns, bits: 8, encoding: Encoding::Other }
    }
}
