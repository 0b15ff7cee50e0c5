//! Weight formats: how stored values become the inputs of products in registers. Each file holds one format, except
//! that [`nibble`] is what all formats of 4 bits share.

mod fp8;
mod int4;
mod int8;
mod mxfp4;
mod nibble;
mod nvfp4;
mod plain;
mod ternary;

pub(crate) use fp8::Fp8Rows;
pub(crate) use int4::Int4;
pub(crate) use int8::Int8Rows;
pub(crate) use mxfp4::Mxfp4;
pub(crate) use nibble::NibbleRows;
pub(crate) use nvfp4::Nvfp4;
pub(crate) use plain::PlainRows;
pub(crate) use ternary::{PER_BYTE, TernaryRows};

use crate::product::{Arithmetic, F};
use crate::simd::Simd;

/// Where the values of a matrix are: row `r` begins `r * pitch` bytes after `start`, and values take `bits` each. Where
/// several rows share their bytes, this holds for the first of them.
#[derive(Clone, Copy)]
pub(crate) struct Storage {
    pub(crate) start: *const u8,
    pub(crate) pitch: usize,
    pub(crate) bits: usize,
    /// What the bits are as they stand.
    pub(crate) encoding: Encoding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    F32,
    Bf16,
    /// Something that has to be decoded.
    Other,
}

/// The rows of a weight matrix. Values come in *runs*: columns that share a scale.
pub(crate) trait Rows: Copy + Send + Sync {
    /// Whether [`Self::two_units`] are less work than twice [`Self::units`].
    const TWO_AT_ONCE: bool = false;

    /// What the values of a run share.
    type Scale<A: Arithmetic>: Copy;

    fn columns(&self) -> usize;

    /// Columns of a run. An arithmetic may be served better by longer ones than the format has.
    fn run<A: Arithmetic>(&self) -> usize;

    /// The place of the first scale of a row among all scales.
    fn first_scale(&self, row: usize) -> usize;

    /// The scale of the run with this index within a row whose first scale is at `first`.
    fn scale<A: Arithmetic>(&self, a: A, first: usize, run: usize) -> Self::Scale<A>;

    /// The units of the values at `column..column + LANES * VALUES` of a row.
    /// # Safety
    /// They lie within the row and within the run that `scale` belongs to; `column` is a multiple of as many.
    unsafe fn units<A: Arithmetic>(&self, a: A, row: usize, column: usize, scale: Self::Scale<A>) -> F<A>;

    /// Two [`Self::units`], one after the other.
    /// # Safety
    /// As for both of them.
    #[inline(always)]
    unsafe fn two_units<A: Arithmetic>(
        &self,
        a: A,
        row: usize,
        column: usize,
        scale: Self::Scale<A>,
    ) -> [F<A>; 2] {
        // SAFETY: passed on to the caller.
        unsafe {
            [self.units(a, row, column, scale), self.units(a, row, column + A::S::LANES * A::VALUES, scale)]
        }
    }

    /// The values at `column..column + out.len()` of a row, wherever runs begin and end.
    fn widen(&self, row: usize, column: usize, out: &mut [f32]);

    /// How the values lie in memory.
    fn storage(&self) -> Storage;
}

/// The zero points of groups of integers.
pub(crate) trait ZeroPoints: Copy + Send + Sync {
    fn of(&self, place: usize) -> f32;
}

/// The same one everywhere.
#[derive(Clone, Copy)]
pub(crate) struct Always<const ZERO_POINT: u8>;

impl<const ZERO_POINT: u8> ZeroPoints for Always<ZERO_POINT> {
    #[inline(always)]
    fn of(&self, _place: usize) -> f32 {
        ZERO_POINT.into()
    }
}

impl ZeroPoints for &[f32] {
    #[inline(always)]
    fn of(&self, place: usize) -> f32 {
        self[place]
    }
}

/// Splits `column..column + out.len()` at the ends of runs: calls `each(run, first column, part of out)`.
#[inline(always)]
fn for_each_run(
    column: usize,
    run: usize,
    mut out: &mut [f32],
    mut each: impl FnMut(usize, usize, &mut [f32]),
) {
    let mut column = column;
    while !out.is_empty() {
        let length = out.len().min(run - column % run);
        let (head, rest) = out.split_at_mut(length);
        each(column / run, column, head);
        (column, out) = (column + length, rest);
    }
}

#[cfg(test)]
pub(crate) mod tests;
