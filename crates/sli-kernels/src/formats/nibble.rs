//! What formats of 4 bits share: 16 codes, whose values are looked up in a table for each group of columns.

use super::{Encoding, Rows, Storage, for_each_run};
use crate::product::{Arithmetic, F};

/// Columns of a group of which a line of bf16 has two.
const HALF_LINE: usize = 16;

/// Two values a byte, the even column in the low half.
#[derive(Clone, Copy)]
pub(crate) struct NibbleRows<'a, T> {
    pub(crate) codes: &'a [u8],
    pub(crate) columns: usize,
    pub(crate) groups: T,
}

/// What tells one format of 4 bits from another: `w = (PALETTE[code] - zero_point) * scale`.
pub(crate) trait Nibble: Copy + Send + Sync {
    const PALETTE: [f32; 16];

    /// Columns of a group.
    fn group(&self) -> usize;

    /// Groups of the whole matrix.
    fn count(&self) -> usize;

    /// (scale, zero point) of a group.
    fn affine(&self, place: usize) -> (f32, f32);
}

/// The values of the 4-bit float format e2m1.
pub(super) const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

impl<T: Nibble> NibbleRows<'_, T> {
    /// Bytes of a row.
    #[inline(always)]
    fn pitch(&self) -> usize {
        self.columns.div_ceil(2)
    }

    /// Groups that are looked up at once.
    #[inline(always)]
    fn groups_at_once<A: Arithmetic>(&self) -> usize {
        if A::VALUES == 2 && self.groups.group() == HALF_LINE { 2 } else { 1 }
    }
}

impl<T: Nibble> Rows for NibbleRows<'_, T> {
    type Scale<A: Arithmetic> = A::Table;

    fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    fn run<A: Arithmetic>(&self) -> usize {
        self.groups.group() * self.groups_at_once::<A>()
    }

    #[inline(always)]
    fn first_scale(&self, row: usize) -> usize {
        row * self.columns.div_ceil(self.groups.group())
    }

    #[inline(always)]
    fn scale<A: Arithmetic>(&self, a: A, first: usize, run: usize) -> A::Table {
        let step = self.groups_at_once::<A>();
        let group = self.groups.affine(first + run * step);
        if step == 1 {
            return a.table(&T::PALETTE, [group; 2]);
        }
        // The last group of the matrix may be the first half of a line, which is not looked up.
        let next = (first + run * step + 1).min(self.groups.count() - 1);
        a.table(&T::PALETTE, [group, self.groups.affine(next)])
    }

    #[inline(always)]
    unsafe fn units<A: Arithmetic>(&self, a: A, row: usize, column: usize, table: A::Table) -> F<A> {
        // SAFETY: the caller vouches for the codes from here on in the row, and for an even column.
        unsafe { a.look_up(table, self.codes.as_ptr().add(row * self.pitch() + column / 2)) }
    }

    #[inline(always)]
    fn widen(&self, row: usize, column: usize, out: &mut [f32]) {
        let codes = &self.codes[row * self.pitch()..(row + 1) * self.pitch()];
        for_each_run(column, self.groups.group(), out, |group, column, out| {
            let (scale, zero_point) = self.groups.affine(self.first_scale(row) + group);
            for (column, out) in (column..).zip(out) {
                let code = codes[column / 2] >> (4 * (column % 2)) & 15;
                *out = (T::PALETTE[usize::from(code)] - zero_point) * scale;
            }
        });
    }

    #[inline(always)]
    fn storage(&self) -> Storage {
        Storage { start: self.codes.as_ptr(), pitch: self.pitch(), bits: 4, encoding: Encoding::Other }
    }
}
