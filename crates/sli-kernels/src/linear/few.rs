//! Products of a few rows of x: w is read once, in stored order, and dotted with all of them.

use rayon::prelude::*;

use super::Activations;
use crate::formats::Storage;
use crate::isa::Isa;
use crate::product::{
    Arithmetic, Dot, Geometry, LINE, Lines, Precision, ProductKernel, Weights, dispatch_product, dot_rows,
    prepare_row,
};
use crate::scratch::{Buffer, Scratch, SharedMut};
use crate::simd::Simd;

/// Rows of w in a task, a multiple of every [`dot_rows`].
pub(super) const CHUNK: usize = 96;
/// Lines of x, of all rows together, that stay in the first-level cache while rows of w go by.
const NEAR_LINES: usize = 512;
/// Lines of decoded weights at a time: with 8 rows half of the first-level cache.
const DEPTH: usize = 32;

/// `y = x W^T (+ bias)`.
pub(super) fn multiply(
    isa: Isa,
    precision: Precision,
    x: Activations,
    w: &dyn Weights,
    bias: Option<&[f32]>,
    y: &mut [f32],
    n: usize,
) {
    let (m, k, geometry) = (y.len() / n, w.columns(), Geometry::of(isa, precision));
    let batches = m.div_ceil(geometry.dot);
    let batch = m.div_ceil(batches);
    // The last batch may be filled up with rows of zeros.
    let (units, stride) = prepare(isa, precision, x, m, batches * batch, k);
    let (x, y) = (units.as_slice(), SharedMut::new(y));
    (0..n.div_ceil(CHUNK)).into_par_iter().for_each(|chunk| {
        let (first, end) = (chunk * CHUNK, n.min((chunk + 1) * CHUNK));
        let task = Task { isa, precision, geometry, x, stride, m, batch, w, bias, first, end, n, y };
        dispatch_product(isa, precision, task);
    });
}

/// The units of `m` rows of x, followed by zeros up to `padded` rows, and the distance between rows.
pub(super) fn prepare(
    isa: Isa,
    precision: Precision,
    x: Activations,
    m: usize,
    padded: usize,
    k: usize,
) -> (Buffer, usize) {
    let stride = Geometry::of(isa, precision).lines(k) * LINE;
    let mut buffer = Buffer::zeros(padded * stride);
    let units = &mut buffer.as_mut_slice()[..m * stride];
    dispatch_product(isa, precision, Prepare { x, k, stride, units });
    (buffer, stride)
}

/// Puts rows of x into units.
struct Prepare<'a> {
    x: Activations<'a>,
    k: usize,
    stride: usize,
    units: &'a mut [f32],
}

impl ProductKernel for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, a: A) {
        for (row, units) in self.units.chunks_exact_mut(self.stride).enumerate() {
            // SAFETY: a row of units is as many lines as k values need.
            unsafe { prepare_row(a, self.x, row * self.k, self.k, units.as_mut_ptr()) };
        }
    }
}

/// The columns `first..end` of y.
struct Task<'a> {
    isa: Isa,
    precision: Precision,
    geometry: Geometry,
    /// Rows of units, `stride` apart, whole batches of them.
    x: &'a [f32],
    stride: usize,
    m: usize,
    batch: usize,
    w: &'a dyn Weights,
    bias: Option<&'a [f32]>,
    first: usize,
    end: usize,
    n: usize,
    y: SharedMut,
}

impl ProductKernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, a: A) {
        let (rows, k, width) = (dot_rows(self.batch), self.w.columns(), LINE * A::VALUES);
        let Storage { start, pitch, encoding, bits } = self.w.storage();
        // Whole lines of weights that are units as they stand are used from where they are.
        let direct = self.geometry.stores(encoding, self.precision);
        let (padded, lines) = (self.m.next_multiple_of(self.batch), k.div_ceil(width));
        let depth = (NEAR_LINES / padded).min(if direct { lines } else { DEPTH }).max(1);
        let (groups, group_sums) = ((self.end - self.first).div_ceil(rows), padded * rows * LINE);
        let mut scratch = Scratch::take(groups * group_sums + rows * DEPTH * LINE);
        let (sums, decoded) = scratch.as_mut_slice().split_at_mut(groups * group_sums);
        sums.fill(0.0);
        for first in (0..lines).step_by(depth) {
            let end = lines.min(first + depth);
            for (group, sums) in sums.chunks_exact_mut(group_sums).enumerate() {
                let row = self.first + group * rows;
                let count = rows.min(self.end - row);
                let mut line = first;
                if direct && count == rows {
                    let whole = end.min(k / width);
                    let w = start.wrapping_add(row * pitch + line * LINE * 4);
                    // One row of x leaves the hardware time to foresee by itself what comes next.
                    let next = (self.m > 1).then_some(Lines {
                        start: w.wrapping_add(rows * pitch),
                        pitch,
                        line: LINE * 4,
                    });
                    // SAFETY: these are whole lines of rows of w.
                    unsafe { self.dot(a, line, whole - line, w, pitch, sums, next) };
                    line = whole;
                }
                while line < end {
                    let last = end.min(line + DEPTH);
                    let columns = line * width..k.min(last * width);
                    let out = decoded.as_mut_ptr();
                    // Next come further columns of these rows, or as many of other rows.
                    let ahead = match last < end {
                        true => columns.len() * bits / 8,
                        false => rows * pitch - (line - first) * width * bits / 8,
                    };
                    // SAFETY: there is room for DEPTH lines of `rows` rows. Where `count` is less, the others hold
                    // something old, and what comes of it is not used.
                    unsafe {
                        let rows = row..row + count;
                        self.w.pack(self.isa, self.precision, rows, columns, out, DEPTH * LINE, LINE, ahead);
                        self.dot(a, line, last - line, out.cast(), DEPTH * LINE * 4, sums, None);
                    }
                    line = last;
                }
            }
        }
        for (group, sums) in sums.chunks_exact(group_sums).enumerate() {
            let row = self.first + group * rows;
            self.write_out(a, row, rows, rows.min(self.end - row), sums);
        }
    }
}

impl Task<'_> {
    /// Dots `lines` lines from `first` on of all rows of x with those rows of w that are at `w`, and prefetches others.
    /// # Safety
    /// The lines of w can be read there, rows `w_stride` bytes apart.
    #[inline(always)]
    unsafe fn dot<A: Arithmetic>(
        &self,
        a: A,
        first: usize,
        lines: usize,
        w: *const u8,
        w_stride: usize,
        sums: &mut [f32],
        mut prefetch: Option<Lines>,
    ) {
        let rows = dot_rows(self.batch);
        let batches = self.x.chunks_exact(self.batch * self.stride);
        for (x, sums) in batches.zip(sums.chunks_exact_mut(self.batch * rows * LINE)) {
            let dot = Dot {
                m: self.batch,
                lines,
                x: x[first * LINE..].as_ptr(),
                x_stride: self.stride,
                w,
                w_stride,
                sums: sums.as_mut_ptr(),
                prefetch: prefetch.take(),
            };
            // SAFETY: a batch of x and its sums are slices of their full lengths, the caller vouches for w.
            unsafe { dot.run(a) };
        }
    }

    /// Adds up the lanes of the sums of `count` rows of w.
    #[inline(always)]
    fn write_out<A: Arithmetic>(&self, a: A, row: usize, rows: usize, count: usize, sums: &[f32]) {
        let s = a.simd();
        for (i, sums) in sums.chunks_exact(rows * LINE).take(self.m).enumerate() {
            for (r, sum) in sums.chunks_exact(LINE).take(count).enumerate() {
                let bias = self.bias.map_or(0.0, |bias| bias[row + r]);
                // SAFETY: this column of y belongs to this task.
                unsafe { *self.y.at(i * self.n + row + r) = s.sum(s.load(sum)) + bias };
            }
        }
    }
}
