//! Laying operands out in units.

use std::ops::Range;

use super::tile::prefetch;
use super::{Arithmetic, LINE, Precision, ProductKernel, dispatch_product};
use crate::formats::{Rows, Storage};
use crate::isa::Isa;
use crate::linear::Activations;
use crate::simd::Simd;

/// Values of a line at most.
const LINE_VALUES: usize = 2 * LINE;

/// Units of `k` values from `column` on of a weight row, zero-padded to whole lines that are `line_stride` apart.
/// # Safety
/// The values lie within the row, `column` is a multiple of 32, and the lines can be written at `out`.
#[inline(always)]
unsafe fn pack_row<A: Arithmetic, R: Rows>(
    a: A,
    rows: R,
    row: usize,
    column: usize,
    k: usize,
    mut out: *mut f32,
    line_stride: usize,
    ahead: usize,
) {
    let (s, lanes, width) = (a.simd(), A::S::LANES, LINE * A::VALUES);
    let Storage { start, pitch, bits, .. } = rows.storage();
    let (mut at, end, run) = (column, column + k, rows.run::<A>());
    if runs_are_lines::<A, R>(&rows) {
        let (first, mut index) = (rows.first_scale(row), at / run);
        let mut run_end = at - at % run;
        while at + width <= end {
            let scale = rows.scale(a, first, index);
            (index, run_end) = (index + 1, end.min(run_end.saturating_add(run)));
            while at + width <= run_end {
                prefetch(start.wrapping_add(row * pitch + at * bits / 8 + ahead));
                for unit in (0..LINE).step_by(lanes) {
                    // SAFETY: a whole line is left in the run and in the row, and can be written.
                    unsafe { s.store_at(out.add(unit), rows.units(a, row, at + unit * A::VALUES, scale)) };
                }
                // SAFETY: the caller vouches for all lines.
                out = unsafe { out.add(line_stride) };
                at += width;
            }
        }
    }
    while at < end {
        let length = width.min(end - at);
        let mut values = [0.0; LINE_VALUES];
        rows.widen(row, at, &mut values[..length]);
        // SAFETY: `values` holds a line, and the caller vouches for the place.
        unsafe {
            store_line(a, &values, out);
            out = out.add(line_stride);
        }
        at += width;
    }
}

/// # Safety
/// A line can be written at `out`.
#[inline(always)]
unsafe fn store_line<A: Arithmetic>(a: A, values: &[f32; LINE_VALUES], out: *mut f32) {
    for unit in (0..LINE).step_by(A::S::LANES) {
        // SAFETY: a line has 16 units of at most two values; the caller vouches for the place.
        unsafe { a.simd().store_at(out.add(unit), a.load(values.as_ptr().add(unit * A::VALUES))) };
    }
}

/// The line that begins with value `first` of `activations`, of which `length` belong to it.
/// # Safety
/// A line can be written at `out`.
#[inline(always)]
unsafe fn pack_line<A: Arithmetic>(a: A, x: Activations, first: usize, length: usize, out: *mut f32) {
    let (s, width) = (a.simd(), LINE * A::VALUES);
    if length < width {
        let mut values = [0.0; LINE_VALUES];
        match x {
            Activations::F32(x) => values[..length].copy_from_slice(&x[first..first + length]),
            Activations::Bf16(x) => {
                for (value, x) in values.iter_mut().zip(&x[first..first + length]) {
                    *value = x.to_f32();
                }
            }
        }
        // SAFETY: the caller vouches for the place.
        return unsafe { store_line(a, &values, out) };
    }
    for unit in (0..LINE).step_by(A::S::LANES) {
        let values = first + unit * A::VALUES;
        // SAFETY: the slices hold `width` values from `first` on, as indexing them checks.
        let units = unsafe {
            match x {
                Activations::F32(x) => a.load(x[values..first + width].as_ptr()),
                Activations::Bf16(x) => a.load_bf16(x[values..first + width].as_ptr()),
            }
        };
        // SAFETY: the caller vouches for the place.
        unsafe { s.store_at(out.add(unit), units) };
    }
}

/// Units of the `k` activations from `first` on, zero-padded to whole lines.
/// # Safety
/// The lines can be written at `out`.
#[inline(always)]
pub(crate) unsafe fn prepare_row<A: Arithmetic>(a: A, x: Activations, first: usize, k: usize, out: *mut f32) {
    let width = LINE * A::VALUES;
    for (line, at) in (0..k).step_by(width).enumerate() {
        // SAFETY: the caller vouches for all lines.
        unsafe { pack_line(a, x, first + at, width.min(k - at), out.add(line * LINE)) };
    }
}

/// A panel of activations as `[unit][lane]`: lane `i` is the `k` values that begin at `first + i * stride` of `x`;
/// lanes past `rows` and units past `k` are zero.
/// # Safety
/// `lanes`, a multiple of `LANES`, lanes of whole lines can be written at `out`.
#[inline(always)]
pub(crate) unsafe fn pack_activations<A: Arithmetic>(
    a: A,
    x: Activations,
    first: usize,
    stride: usize,
    rows: usize,
    k: usize,
    lanes: usize,
    out: *mut f32,
) {
    let (s, width) = (a.simd(), LINE * A::VALUES);
    let mut block = [[0.0; LINE]; LINE];
    for lane in (0..lanes).step_by(A::S::LANES) {
        let filled = rows.saturating_sub(lane).min(A::S::LANES);
        block[filled..].fill([0.0; LINE]);
        for (line, at) in (0..k).step_by(width).enumerate() {
            for (i, units) in block[..filled].iter_mut().enumerate() {
                let first = first + (lane + i) * stride + at;
                // SAFETY: `units` is a line.
                unsafe { pack_line(a, x, first, width.min(k - at), units.as_mut_ptr()) };
            }
            for unit in (0..LINE).step_by(A::S::LANES) {
                // SAFETY: `block` is 16 by 16, and the caller vouches for the panel.
                unsafe {
                    let out = out.add((line * LINE + unit) * lanes + lane);
                    s.transpose(block.as_ptr().cast::<f32>().add(unit), LINE, out, lanes);
                }
            }
        }
    }
}

/// The values `columns` of `rows`: the lines of each row are `line_stride` apart, the rows `row_stride`.
/// # Safety
/// As for [`Weights::pack`].
#[inline(always)]
pub(crate) unsafe fn pack_rows<A: Arithmetic, R: Rows>(
    a: A,
    weights: &R,
    rows: Range<usize>,
    columns: Range<usize>,
    out: *mut f32,
    row_stride: usize,
    line_stride: usize,
    ahead: usize,
) {
    for (i, row) in rows.enumerate() {
        // SAFETY: the caller vouches for all rows.
        unsafe {
            pack_row(
                a,
                *weights,
                row,
                columns.start,
                columns.len(),
                out.add(i * row_stride),
                line_stride,
                ahead,
            )
        };
    }
}

/// Whether the runs of w are whole lines or whole rows.
#[inline(always)]
pub(crate) fn runs_are_lines<A: Arithmetic, R: Rows>(w: &R) -> bool {
    let run = w.run::<A>();
    run.is_multiple_of(LINE * A::VALUES) || run >= w.columns()
}

/// A weight matrix of any format, as code that does not depend on the format sees it.
pub(crate) trait Weights: Sync {
    fn columns(&self) -> usize;

    fn storage(&self) -> Storage;

    /// Packs the values `columns` of `rows`: the lines of each row are `line_stride` apart, the rows `row_stride`.
    /// `ahead` bytes further lies what will be needed soon.
    /// # Safety
    /// The values lie within the matrix, `columns` begins at a multiple of 32 (unless a run is a whole row), and the lines can be written at `out`.
    unsafe fn pack(
        &self,
        isa: Isa,
        precision: Precision,
        rows: Range<usize>,
        columns: Range<usize>,
        out: *mut f32,
        row_stride: usize,
        line_stride: usize,
        ahead: usize,
    );
}

impl<R: Rows> Weights for R {
    fn columns(&self) -> usize {
        Rows::columns(self)
    }

    fn storage(&self) -> Storage {
        Rows::storage(self)
    }

    unsafe fn pack(
        &self,
        isa: Isa,
        precision: Precision,
        rows: Range<usize>,
        columns: Range<usize>,
        out: *mut f32,
        row_stride: usize,
        line_stride: usize,
        ahead: usize,
    ) {
        /// Rows whose values and places the caller of `pack` has vouched for.
        struct Vouched<'a, R> {
            weights: &'a R,
            rows: Range<usize>,
            columns: Range<usize>,
            out: *mut f32,
            row_stride: usize,
            line_stride: usize,
            ahead: usize,
        }
        impl<R: Rows> ProductKernel for Vouched<'_, R> {
            type Output = ();
            #[inline(always)]
            fn run<A: Arithmetic>(self, a: A) {
                let Self { weights, rows, columns, out, row_stride, line_stride, ahead } = self;
                // SAFETY: vouched for.
                unsafe { pack_rows(a, weights, rows, columns, out, row_stride, line_stride, ahead) };
            }
        }
        dispatch_product(
            isa,
            precision,
            Vouched { weights: self, rows, columns, out, row_stride, line_stride, ahead },
        );
    }
}
