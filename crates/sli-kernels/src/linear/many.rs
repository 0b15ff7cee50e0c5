//! Products of many rows of x. They are packed into panels once; then blocks of some rows of w by some rows of x are
//! summed in parallel and written out.

use rayon::prelude::*;

use super::Activations;
use super::block::{Block, CHUNK, GROUPS};
use super::panels::{Shape, even_parts};
use crate::isa::Isa;
use crate::product::{Arithmetic, Geometry, LINE, Precision, ProductKernel, Weights, dispatch_product};
use crate::scratch::{SCRATCH_BYTES, Scratch, SharedMut};
use crate::simd::Simd;

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
    let (k, geometry) = (w.columns(), Geometry::of(isa, precision));
    // Rows of x that are packed at a time: what the scratch memory holds, at least a panel.
    let (m, panel) = (y.len() / n, geometry.panel());
    let most = SCRATCH_BYTES / (geometry.lines(k) * LINE * size_of::<f32>());
    let slab_rows = even_parts(m, (most / panel * panel).max(panel), panel);
    for (slab, y) in y.chunks_mut(slab_rows * n).enumerate() {
        let shape = Shape { isa, precision, geometry, m: y.len() / n, k };
        let mut units = Scratch::take(shape.units());
        shape.pack(x.slice(slab * slab_rows * k, shape.m * k), units.as_mut_slice());
        write_product(shape, units.as_slice(), w, bias, y);
    }
}

/// The product of packed rows of x with all of w.
pub(super) fn write_product(
    shape: Shape,
    units: &[f32],
    w: &dyn Weights,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let n = y.len() / shape.m;
    let y = SharedMut::new(y);
    for_each_block(shape, n, |first_row, rows, first_column, columns| {
        let block = Block { shape, units, w, first_row, rows, first_column, columns };
        let stride = block.stride();
        let mut scratch = Scratch::take(CHUNK * stride + GROUPS);
        let (sums, groups) = scratch.as_mut_slice().split_at_mut(CHUNK * stride);
        block.sum(sums, groups);
        dispatch_product(shape.isa, shape.precision, WriteOut { block, bias, sums, stride, n, y });
    });
}

/// Calls `work(first row, rows, first column, columns)` for all blocks of `n` columns, in parallel.
pub(super) fn for_each_block(shape: Shape, n: usize, work: impl Fn(usize, usize, usize, usize) + Sync) {
    let (chunks, rows) = (n.div_ceil(CHUNK), shape.block_rows());
    (0..chunks * shape.m.div_ceil(rows)).into_par_iter().for_each(|task| {
        let (row, column) = (task / chunks * rows, task % chunks * CHUNK);
        work(row, rows.min(shape.m - row), column, CHUNK.min(n - column));
    });
}

/// Turns sums, `[column][row]`, into rows of y and adds the bias.
struct WriteOut<'a> {
    block: Block<'a>,
    bias: Option<&'a [f32]>,
    sums: &'a [f32],
    stride: usize,
    n: usize,
    y: SharedMut,
}

impl ProductKernel for WriteOut<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, a: A) {
        let Self { block, bias, sums, stride, n, y } = self;
        let (s, lanes) = (a.simd(), A::S::LANES);
        let mut turned = [[0.0; LINE]; LINE];
        // Rows outside: what a task writes of a row of y is contiguous.
        for row in (0..block.rows).step_by(lanes) {
            for column in (0..block.columns).step_by(lanes) {
                let width = lanes.min(block.columns - column);
                let bias = match bias {
                    Some(bias) => s.load_partial(&bias[block.first_column + column..][..width], 0.0),
                    None => s.splat(0.0),
                };
                // SAFETY: the sums have CHUNK rows, a multiple of LANES, of `stride` values, another one.
                unsafe {
                    let from = sums[column * stride + row..].as_ptr();
                    s.transpose(from, stride, turned.as_mut_ptr().cast(), LINE);
                }
                for (i, turned) in turned[..lanes.min(block.rows - row)].iter().enumerate() {
                    let at = (block.first_row + row + i) * n + block.first_column + column;
                    // SAFETY: these values of y belong to this task alone.
                    let y = unsafe { std::slice::from_raw_parts_mut(y.at(at), width) };
                    let values = s.add(s.load(turned), bias);
                    s.store_up_to(y, values);
                }
            }
        }
    }
}
