//! Weight formats: how stored values become f32 in registers. Each file holds one family of formats.

mod fp8;
mod int;
mod plain;

pub(crate) use fp8::Fp8Rows;
use half::bf16;
pub(crate) use int::IntRows;
pub(crate) use plain::PlainRows;

use crate::simd::Simd;

/// Where the values of a matrix are: row `r` begins `r * pitch` bytes after `start`, and values take `bits` each.
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
    /// What the values of a run share.
    type Scale<S: Simd>: Copy;

    fn columns(&self) -> usize;

    /// Columns of a run.
    fn run(&self) -> usize;

    /// The place of the first run of a row among all scales.
    fn first_scale(&self, row: usize) -> usize;

    fn scale<S: Simd>(&self, simd: S, place: usize) -> Self::Scale<S>;

    /// The values at `column..column + LANES` of a row.
    /// # Safety
    /// They lie within the row and within the run that `scale` belongs to; `column` is even.
    unsafe fn vector<S: Simd>(&self, simd: S, row: usize, column: usize, scale: Self::Scale<S>) -> S::F;

    /// The values at `column..column + out.len()` of a row, wherever runs begin and end.
    fn widen(&self, row: usize, column: usize, out: &mut [f32]);

    /// How the values lie in memory.
    fn storage(&self) -> Storage;

    /// The stored values from `column` on, where they are bf16.
    #[inline(always)]
    fn as_bf16(&self, row: usize, column: usize) -> Option<*const bf16> {
        let Storage { start, pitch, encoding, .. } = self.storage();
        (encoding == Encoding::Bf16).then(|| start.wrapping_add(row * pitch + 2 * column).cast())
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
