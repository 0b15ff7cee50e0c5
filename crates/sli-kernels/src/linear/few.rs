//! Products of a few rows of x: w is read once, in stored order, and dotted with all of them.

use rayon::prelude::*;

use super::Activations;
use crate::formats::{Encoding, Storage};
use crate::isa::Isa;
use crate::product::{
    Arithmetic, Dot, Geometry, LINE, Precision, ProductKernel, Weights, dispatch_product, dot_rows,
    prepare_row,
};
use crate::scratch::{Buffer, Scratch, SharedMut};
use crate::simd::Simd;

/// Rows of w in a task, a multiple of every [`dot_rows`].
const CHUNK: usize = 96;
/// Lines of decoded weights at a time: with 8 rows half of the first-level cache.
const DEPTH: usize = 32;

/// `y = x W^T (+ bias)` for at most [`crate::product::MAX_DOT`] rows.
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
    let stride = geometry.lines(k) * LINE;
    let mut units = Buffer::zeros(m * stride);
    dispatch_product(
        isa,
        precision,
        Prepare { x, k, stride, units: &mut units.as_mut_slice()[..m * stride] },
    );
    let (x, y) = (units.as_slice(), SharedMut::new(y));
    (0..n.div_ceil(CHUNK)).into_par_iter().for_each(|chunk| {
        let (first, end) = (chunk * CHUNK, n.min((chunk + 1) * CHUNK));
        dispatch_product(isa, precision, Task { isa, precision, x, m, w, bias, first, end, n, y });
    });
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
    /// Rows of units.
    x: &'a [f32],
    m: usize,
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
        let (s, rows, k, width) = (a.simd(), dot_rows(self.m), self.w.columns(), LINE * A::VALUES);
        let Storage { start, pitch, encoding, .. } = self.w.storage();
        // Weights that are units as they stand, up to the last partial line.
        let direct = match encoding {
            Encoding::F32 => self.precision == Precision::F32,
            Encoding::Bf16 => A::VALUES == 2,
            Encoding::Other => false,
        };
        let mut scratch = Scratch::take((self.m * rows + rows * DEPTH) * LINE);
        let (sums, decoded) = scratch.as_mut_slice().split_at_mut(self.m * rows * LINE);
        let x_stride = k.div_ceil(width) * LINE;
        let dot = |lines, line: usize, w, w_stride, sums: &mut [f32]| {
            let x = self.x[line * LINE..].as_ptr();
            Dot { m: self.m, lines, x, x_stride, w, w_stride, sums: sums.as_mut_ptr() }
        };
        for row in (self.first..self.end).step_by(rows) {
            sums.fill(0.0);
            let count = rows.min(self.end - row);
            let mut line = 0;
            if direct && count == rows {
                line = k / width;
                // SAFETY: these are whole lines of rows of w.
                unsafe { dot(line, 0, start.wrapping_add(row * pitch), pitch, sums).run(a) };
            }
            while line * width < k {
                let columns = line * width..k.min((line + DEPTH) * width);
                let lines = columns.len().div_ceil(width);
                let out = decoded.as_mut_ptr();
                // SAFETY: there is room for DEPTH lines of `rows` rows. Where `count` is less, the others hold
                // something old, and what comes of it is not used.
                unsafe {
                    self.w.pack(self.isa, self.precision, row..row + count, columns, out, DEPTH * LINE, LINE);
                    dot(lines, line, out.cast(), DEPTH * LINE * 4, sums).run(a);
                }
                line += lines;
            }
            for (at, sum) in sums.chunks_exact(LINE).enumerate() {
                let (i, r) = (at / rows, at % rows);
                if r < count {
                    let bias = self.bias.map_or(0.0, |bias| bias[row + r]);
                    // SAFETY: this column of y belongs to this task.
                    unsafe { *self.y.at(i * self.n + row + r) = s.sum(s.load(sum)) + bias };
                }
            }
        }
    }
}
