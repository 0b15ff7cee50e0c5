//! Floats of 32 or 16 bits, stored as they are.

use half::{bf16, f16};

use super::{Encoding, Rows, Storage};
use crate::product::{Arithmetic, F};
use crate::simd::Simd;

#[derive(Clone, Copy)]
pub(crate) struct PlainRows<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) columns: usize,
}

/// A float that widens exactly to f32.
pub(crate) trait Float: Copy + Send + Sync + Into<f32> {
    const ENCODING: Encoding;

    /// # Safety
    /// `LANES * VALUES` values can be read at `p`.
    unsafe fn units<A: Arithmetic>(a: A, p: *const Self) -> F<A>;
}

impl Float for f32 {
    const ENCODING: Encoding = Encoding::F32;

    #[inline(always)]
    unsafe fn units<A: Arithmetic>(a: A, p: *const Self) -> F<A> {
        // SAFETY: the caller vouches for the values.
        unsafe { a.load(p) }
    }
}

impl Float for bf16 {
    const ENCODING: Encoding = Encoding::Bf16;

    #[inline(always)]
    unsafe fn units<A: Arithmetic>(a: A, p: *const Self) -> F<A> {
        // SAFETY: the caller vouches for the values.
        unsafe { a.load_bf16(p) }
    }
}

impl Float for f16 {
    const ENCODING: Encoding = Encoding::Other;

    #[inline(always)]
    unsafe fn units<A: Arithmetic>(a: A, p: *const Self) -> F<A> {
        // SAFETY: the caller vouches for the values.
        unsafe {
            let first = a.simd().load_f16(p);
            if A::VALUES == 1 {
                return a.round(first, first);
            }
            a.round(first, a.simd().load_f16(p.add(A::S::LANES)))
        }
    }
}

impl<T: Float> Rows for PlainRows<'_, T> {
    type Scale<A: Arithmetic> = ();

    fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    fn run<A: Arithmetic>(&self) -> usize {
        usize::MAX
    }

    #[inline(always)]
    fn first_scale(&self, _row: usize) -> usize {
        0
    }

    #[inline(always)]
    fn scale<A: Arithmetic>(&self, _a: A, _first: usize, _run: usize) {}

    #[inline(always)]
    unsafe fn units<A: Arithmetic>(&self, a: A, row: usize, column: usize, (): ()) -> F<A> {
        // SAFETY: the caller vouches for the values from here on in the row.
        unsafe { T::units(a, self.values.as_ptr().add(row * self.columns + column)) }
    }

    #[inline(always)]
    fn widen(&self, row: usize, column: usize, out: &mut [f32]) {
        let first = row * self.columns + column;
        for (out, &value) in out.iter_mut().zip(&self.values[first..]) {
            *out = value.into();
        }
    }

    #[inline(always)]
    fn storage(&self) -> Storage {
        let (start, size) = (self.values.as_ptr().cast(), size_of::<T>());
        Storage { start, pitch: self.columns * size, bits: 8 * size, encoding: T::ENCODING }
    }
}
