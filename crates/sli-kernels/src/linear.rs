//! `y = x W^T`: the product of activations with a weight matrix as it is stored.
//!
//! Few rows of x (up to 8) are dotted with the rows of w directly. More are packed into panels once; then tasks of
//! a chunk of rows of w by a block of rows of x run in parallel. A task packs a group of rows of w at a time, which
//! is where they are dequantised, and multiplies it with every panel of its block. The sums of a task stay
//! transposed in its scratch until they are complete.

use half::bf16;
use rayon::prelude::*;

use crate::formats::Rows;
use crate::isa::{Isa, isa};
use crate::matrix::{Matrix, WithRows};
use crate::product::{
    Arithmetic, Combine, GROUP, Geometry, LINE, Layout, Precision, ProductKernel, dispatch_product, dot_rows,
    pack_activations, pack_rows, prepare_row, tile,
};
use crate::scratch::{Buffer, Scratch, SharedMut};
use crate::simd::Simd;

/// The activations that enter a matrix product, row-major.
#[derive(Clone, Copy, Debug)]
pub enum Activations<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
}

/// Rows of x up to which the dot product is used.
const DOT_ROWS: usize = 8;
/// Rows of w in a task.
const CHUNK: usize = 4 * GROUP;
/// Rows of x in a task: with [`LONG`] this many packed rows stay in the second-level cache.
const BLOCK: usize = 512;
/// Rows of x that are packed at a time, which bounds the scratch memory.
const SLAB: usize = 2 * BLOCK;
/// Lines of k in a block where there are several panels, 256 units.
const SHORT: usize = 16;
/// Lines of k in a block where one panel holds all of x.
const LONG: usize = 64;

/// `y[m, n] = x[m, k] W^T (+ bias)`, where w is an n by k matrix, bias has n values, and m follows from `y`.
///
/// The result does not depend on the number of threads.
///
/// # Panics
/// Where the lengths do not fit together or [`Matrix::check`] fails.
pub fn linear(x: Activations, w: &Matrix, bias: Option<&[f32]>, precision: Precision, y: &mut [f32]) {
    struct Linear<'a> {
        x: Activations<'a>,
        bias: Option<&'a [f32]>,
        precision: Precision,
        y: &'a mut [f32],
        n: usize,
    }
    impl WithRows for Linear<'_> {
        type Output = ();
        fn run<R: Rows>(self, w: R) {
            let Self { x, bias, precision, y, n } = self;
            let k = w.columns();
            let m = y.len() / n;
            if k == 0 {
                y.chunks_exact_mut(n).for_each(|row| match bias {
                    Some(bias) => row.copy_from_slice(bias),
                    None => row.fill(0.0),
                });
            } else if m <= DOT_ROWS {
                few_rows(isa(), precision, x, w, bias, m, n, y);
            } else {
                for first in (0..m).step_by(SLAB) {
                    let rows = SLAB.min(m - first);
                    let x = match x {
                        Activations::F32(x) => Activations::F32(&x[first * k..][..rows * k]),
                        Activations::Bf16(x) => Activations::Bf16(&x[first * k..][..rows * k]),
                    };
                    Slab::new(isa(), precision, x, rows, k).multiply(
                        w,
                        bias,
                        n,
                        &mut y[first * n..][..rows * n],
                    );
                }
            }
        }
    }
    let (n, k) = (w.rows, w.columns);
    if n == 0 {
        assert!(y.is_empty(), "linear: the matrix has no rows, y has {} values", y.len());
        return;
    }
    assert!(
        y.len().is_multiple_of(n) && x.len() == y.len() / n * k,
        "linear: w is [{n}, {k}], x has {} values, y has {}",
        x.len(),
        y.len()
    );
    assert!(bias.is_none_or(|bias| bias.len() == n), "linear: bias does not have {n} values");
    if !y.is_empty() {
        w.with_rows(Linear { x, bias, precision, y, n });
    }
}

/// The case of at most [`DOT_ROWS`] rows of x.
fn few_rows<R: Rows>(
    isa: Isa,
    precision: Precision,
    x: Activations,
    w: R,
    bias: Option<&[f32]>,
    m: usize,
    n: usize,
    y: &mut [f32],
) {
    struct Prepare<'a> {
        x: Activations<'a>,
        m: usize,
        k: usize,
        units: &'a mut [f32],
    }
    impl ProductKernel for Prepare<'_> {
        type Output = ();
        #[inline(always)]
        fn run<A: Arithmetic>(self, a: A) {
            for (row, units) in self.units.chunks_exact_mut(self.units.len() / self.m).enumerate() {
                // SAFETY: a row of units is as many lines as k values need.
                unsafe { prepare_row(a, self.x, row, self.k, units.as_mut_ptr()) };
            }
        }
    }
    struct Dot<'a, R> {
        x: &'a [f32],
        w: R,
        m: usize,
        n: usize,
        first: usize,
        rows: usize,
        y: SharedMut,
    }
    impl<R: Rows> ProductKernel for Dot<'_, R> {
        type Output = ();
        #[inline(always)]
        fn run<A: Arithmetic>(self, a: A) {
            let end = self.first + self.rows;
            macro_rules! sweep {
                ($m:literal, $r:literal) => {{
                    let mut row = self.first;
                    while row < end {
                        // SAFETY: the rows lie within the task's own columns of y.
                        unsafe {
                            let y = self.y.at(row);
                            if row + $r <= end {
                                dot_rows::<A, R, $m, $r>(a, self.x.as_ptr(), &self.w, row, y, self.n);
                                row += $r;
                            } else {
                                dot_rows::<A, R, $m, 1>(a, self.x.as_ptr(), &self.w, row, y, self.n);
                                row += 1;
                            }
                        }
                    }
                }};
            }
            match self.m {
                1 => sweep!(1, 8),
                2 => sweep!(2, 6),
                3 => sweep!(3, 4),
                4 => sweep!(4, 4),
                5 => sweep!(5, 4),
                6 => sweep!(6, 4),
                7 => sweep!(7, 3),
                _ => sweep!(8, 3),
            }
        }
    }
    let k = w.columns();
    let geometry = Geometry::of(isa, precision);
    let length = m * geometry.lines(k) * LINE;
    let mut units = Buffer::zeros(length);
    dispatch_product(isa, precision, Prepare { x, m, k, units: &mut units.as_mut_slice()[..length] });
    let (units, shared) = (&units.as_slice()[..length], SharedMut::new(y));
    (0..n.div_ceil(CHUNK)).into_par_iter().for_each(|chunk| {
        let first = chunk * CHUNK;
        let rows = CHUNK.min(n - first);
        dispatch_product(isa, precision, Dot { x: units, w, m, n, first, rows, y: shared });
    });
    if let Some(bias) = bias {
        for row in y.chunks_exact_mut(n) {
            row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
        }
    }
}

/// Up to [`SLAB`] rows of x, packed: for each block of k, for each panel, `[unit][lane]`.
struct Slab {
    isa: Isa,
    precision: Precision,
    geometry: Geometry,
    /// Rows of x.
    m: usize,
    k: usize,
    /// Lines of k in a block.
    depth: usize,
    units: Buffer,
}

/// A part of k: lines from `first` on, `lines` of them.
#[derive(Clone, Copy)]
struct Depth {
    first: usize,
    lines: usize,
}

/// A part of x: rows from `first` on, as many lanes as it is packed in.
#[derive(Clone, Copy)]
struct Panel {
    first: usize,
    lanes: usize,
}

impl Slab {
    fn new(isa: Isa, precision: Precision, x: Activations, m: usize, k: usize) -> Self {
        struct Pack<'a> {
            x: Activations<'a>,
            slab: &'a Slab,
            panel: Panel,
            depth: Depth,
            out: *mut f32,
        }
        impl ProductKernel for Pack<'_> {
            type Output = ();
            #[inline(always)]
            fn run<A: Arithmetic>(self, a: A) {
                let Slab { m, k, .. } = *self.slab;
                let values = LINE * A::VALUES;
                let column = self.depth.first * values;
                let length = (self.depth.lines * values).min(k - column);
                let Panel { first, lanes } = self.panel;
                // SAFETY: `out` is the place of this panel and depth, which no other task writes.
                unsafe {
                    let rows = lanes.min(m - first);
                    pack_activations(a, self.x, first * k + column, k, rows, length, lanes, self.out);
                }
            }
        }
        let geometry = Geometry::of(isa, precision);
        let depth = if m <= geometry.panel() { LONG } else { SHORT };
        let mut slab = Self { isa, precision, geometry, m, k, depth, units: Buffer::zeros(0) };
        let mut units = Buffer::zeros(slab.padded_rows() * geometry.lines(k) * LINE);
        let shared = SharedMut::new(units.as_mut_slice());
        slab.depths()
            .flat_map(|depth| slab.panels(0, m).map(move |panel| (depth, panel)))
            .par_bridge()
            .for_each(|(depth, panel)| {
                // SAFETY: the place lies within `units`, which holds all lines of all lanes.
                let out = unsafe { shared.at(slab.place(depth, panel)) };
                dispatch_product(isa, precision, Pack { x, slab: &slab, panel, depth, out });
            });
        slab.units = units;
        slab
    }

    /// Rows of x rounded up to whole vectors.
    fn padded_rows(&self) -> usize {
        self.m.next_multiple_of(self.geometry.lanes)
    }

    fn depths(&self) -> impl Iterator<Item = Depth> + Send + use<> {
        let (lines, depth) = (self.geometry.lines(self.k), self.depth);
        (0..lines).step_by(depth).map(move |first| Depth { first, lines: depth.min(lines - first) })
    }

    /// The panels of rows `first..end`.
    fn panels(&self, first: usize, end: usize) -> impl Iterator<Item = Panel> + Send + use<> {
        let Geometry { lanes, .. } = self.geometry;
        let panel = self.geometry.panel();
        (first..end)
            .step_by(panel)
            .map(move |first| Panel { first, lanes: panel.min((end - first).next_multiple_of(lanes)) })
    }

    /// Where a part of x begins in `units`.
    fn place(&self, depth: Depth, panel: Panel) -> usize {
        (depth.first * self.padded_rows() + panel.first * depth.lines) * LINE
    }

    fn multiply<R: Rows>(&self, w: R, bias: Option<&[f32]>, n: usize, y: &mut [f32]) {
        let (chunks, blocks) = (n.div_ceil(CHUNK), self.m.div_ceil(BLOCK));
        let y = SharedMut::new(y);
        (0..chunks * blocks).into_par_iter().for_each(|task| {
            let (row, column) = (task / chunks * BLOCK, task % chunks * CHUNK);
            let task = Task {
                slab: self,
                w,
                bias,
                first_row: row,
                rows: BLOCK.min(self.m - row),
                first_column: column,
                columns: CHUNK.min(n - column),
                n,
                y,
            };
            dispatch_product(self.isa, self.precision, task);
        });
    }
}

/// A block of y: rows of x by rows of w (columns of y).
struct Task<'a, R> {
    slab: &'a Slab,
    w: R,
    bias: Option<&'a [f32]>,
    first_row: usize,
    rows: usize,
    first_column: usize,
    columns: usize,
    n: usize,
    y: SharedMut,
}

impl<R: Rows> ProductKernel for Task<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, a: A) {
        let stride = self.rows.next_multiple_of(A::S::LANES);
        let sums = CHUNK * stride;
        let mut scratch = Scratch::take(sums + GROUP * self.slab.depth * LINE);
        let (sums, group) = scratch.as_mut_slice().split_at_mut(sums);
        if self.slab.m <= self.slab.geometry.panel() {
            for first in (0..self.columns).step_by(GROUP) {
                for depth in self.slab.depths() {
                    self.multiply_group(a, first, depth, group, sums, stride);
                }
            }
        } else {
            for depth in self.slab.depths() {
                for first in (0..self.columns).step_by(GROUP) {
                    self.multiply_group(a, first, depth, group, sums, stride);
                }
            }
        }
        self.write_out(a, sums, stride);
    }
}

impl<R: Rows> Task<'_, R> {
    /// Packs a group of rows of w and adds its products with all panels to the sums.
    #[inline(always)]
    fn multiply_group<A: Arithmetic>(
        &self,
        a: A,
        first: usize,
        depth: Depth,
        group: &mut [f32],
        sums: &mut [f32],
        stride: usize,
    ) {
        let rows = GROUP.min(self.columns - first);
        let column = depth.first * LINE * A::VALUES;
        let k = (depth.lines * LINE * A::VALUES).min(self.slab.k - column);
        for r in 0..rows {
            // SAFETY: the row and its columns exist, and `group` holds this many lines of all rows.
            unsafe {
                let out = group.as_mut_ptr().add(r * LINE);
                pack_rows(a, &self.w, self.first_column + first + r, column, k, out, GROUP * LINE);
            }
        }
        let combine = if depth.first == 0 { Combine::Store } else { Combine::Add };
        for panel in self.slab.panels(self.first_row, self.first_row + self.rows) {
            let x = self.slab.units.as_slice()[self.slab.place(depth, panel)..].as_ptr();
            let out = sums[first * stride + panel.first - self.first_row..].as_mut_ptr();
            let (vectors, w) = (panel.lanes / A::S::LANES, group.as_ptr());
            // SAFETY: the panel has the lines of this depth; the group has 24 rows, a multiple of every step; the
            // sums have as many rows, since CHUNK is a multiple of GROUP.
            unsafe {
                tile::<A, LINE>(
                    a,
                    vectors,
                    rows,
                    depth.lines,
                    x,
                    w,
                    Layout { line: GROUP * LINE, unit: 1 },
                    out,
                    stride,
                    combine,
                    |_, _| {},
                );
            }
        }
    }

    /// Turns the sums into rows of y and adds the bias.
    #[inline(always)]
    fn write_out<A: Arithmetic>(&self, a: A, sums: &[f32], stride: usize) {
        let (s, lanes) = (a.simd(), A::S::LANES);
        let mut turned = [[0.0; LINE]; LINE];
        for column in (0..self.columns).step_by(lanes) {
            let width = lanes.min(self.columns - column);
            let bias = match self.bias {
                Some(bias) => s.load_partial(&bias[self.first_column + column..][..width], 0.0),
                None => s.splat(0.0),
            };
            for row in (0..self.rows).step_by(lanes) {
                // SAFETY: the sums have CHUNK rows, a multiple of LANES, and `stride` lanes.
                unsafe {
                    let from = sums[column * stride + row..].as_ptr();
                    s.transpose(from, stride, turned.as_mut_ptr().cast(), LINE);
                }
                for (i, turned) in turned[..lanes.min(self.rows - row)].iter().enumerate() {
                    let at = (self.first_row + row + i) * self.n + self.first_column + column;
                    // SAFETY: these values of y belong to this task alone.
                    let y = unsafe { std::slice::from_raw_parts_mut(self.y.at(at), width) };
                    let values = s.add(s.load(turned), bias);
                    if width == lanes { s.store(y, values) } else { s.store_partial(y, values) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::{KINDS, Stored};
    use crate::isa::tests::for_each_isa;
    use crate::matrix::Format;
    use crate::testing::{Random, assert_close};

    fn round(x: f32, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => x.into(),
            Precision::Bf16 => bf16::from_f32(x).to_f64(),
        }
    }

    fn check(stored: &Stored, m: usize, precision: Precision, with_bias: bool, as_bf16: bool) {
        let (n, k) = (stored.rows, stored.columns);
        let mut random = Random::new(m as u64);
        let mut x = random.values(m * k);
        let narrow: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        if as_bf16 {
            x = narrow.iter().map(|x| x.to_f32()).collect();
        }
        let bias = random.values(n);
        let bias = with_bias.then_some(&bias[..]);
        let mut expected = vec![0.0; m * n];
        // Rounding errors are proportional to the sum of magnitudes.
        let mut scale = 1e-3f64;
        for i in 0..m {
            for r in 0..n {
                let products =
                    (0..k).map(|c| round(x[i * k + c], precision) * round(stored.value(r, c), precision));
                let (sum, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
                expected[i * n + r] = sum + bias.map_or(0.0, |bias| bias[r].into());
                scale = scale.max(size);
            }
        }
        for_each_isa(|isa| {
            let mut y = vec![f32::NAN; m * n];
            let activations = if as_bf16 { Activations::Bf16(&narrow) } else { Activations::F32(&x) };
            linear(activations, &stored.matrix(), bias, precision, &mut y);
            let what = format!("{isa} {} m={m} n={n} k={k} {precision:?}", stored.kind);
            assert_close(&y, &expected, scale, 3e-7, &what);
        });
    }

    #[test]
    fn every_format_agrees_with_the_reference() {
        for kind in KINDS {
            for precision in [Precision::F32, Precision::Bf16] {
                for (n, k, group) in [(30, 48, 32), (7, 33, 8), (101, 130, 64)] {
                    let stored = Stored::random(kind, n, k, group, 11);
                    for m in [1, 5, 8, 19] {
                        check(&stored, m, precision, m == 5, false);
                    }
                }
            }
        }
    }

    #[test]
    fn odd_shapes_agree_with_the_reference() {
        for precision in [Precision::F32, Precision::Bf16] {
            for (n, k) in [(1, 1), (3, 4), (8, 8), (24, 48), (97, 600), (25, 2100), (192, 31)] {
                let stored = Stored::random("bf16", n, k, 1, 5);
                for m in [1, 2, 3, 4, 6, 7, 9, 16, 33, 50, 64, 81, 130] {
                    check(&stored, m, precision, m % 2 == 0, m % 3 == 0);
                }
            }
            check(&Stored::random("f32", 10, 40, 1, 5), 1100, precision, true, false);
        }
    }

    #[test]
    fn empty_shapes_do_nothing_or_give_the_bias() {
        for_each_isa(|_| {
            let none = Matrix { rows: 3, columns: 0, format: Format::F32(&[]) };
            let mut y = [f32::NAN; 6];
            linear(Activations::F32(&[]), &none, Some(&[1.0, 2.0, 3.0]), Precision::F32, &mut y);
            assert_eq!(y, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
            linear(Activations::F32(&[]), &none, None, Precision::Bf16, &mut y);
            assert_eq!(y, [0.0; 6]);
            linear(Activations::F32(&[]), &none, None, Precision::F32, &mut []);
            let flat = Matrix { rows: 0, columns: 5, format: Format::F32(&[]) };
            linear(Activations::F32(&[1.0; 5]), &flat, None, Precision::F32, &mut []);
        });
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let stored = Stored::random("bf16", 300, 700, 1, 5);
        let x = Random::new(2).values(200 * 700);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut y = vec![0.0; 200 * 300];
            pool.install(|| linear(Activations::F32(&x), &stored.matrix(), None, Precision::Bf16, &mut y));
            y
        };
        assert_eq!(run(1), run(3));
    }
}
