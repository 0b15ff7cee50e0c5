//! Two or three products with an elementwise function between them. A block of inner values is summed transposed, which
//! is how the last product wants its activations: they are rounded and laid out while they are in the cache, and cost
//! neither the memory nor the time of a matrix of their own.

use super::Activations;
use super::block::{Block, CHUNK, GROUPS};
use super::many::{for_each_block, write_product};
use super::panels::{LARGEST_BLOCK, Panel, Shape, even_parts};
use crate::isa::Isa;
use crate::product::{Arithmetic, Geometry, LINE, Precision, ProductKernel, Weights, dispatch_product};
use crate::scratch::{SCRATCH_BYTES, Scratch, SharedMut};
use crate::simd::Simd;

/// What is done to each inner value.
pub(crate) trait InnerFunction: Copy + Sync {
    /// Of the gate and of what it weighs; without a gate both are the same.
    fn value<S: Simd>(self, s: S, gate: S::F, up: S::F) -> S::F;
}

/// A matrix and its bias.
type Projection<'a> = (&'a dyn Weights, Option<&'a [f32]>);

/// The projections of an MLP, and what goes in.
pub(crate) struct FusedMlp<'a> {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
    pub(crate) x: Activations<'a>,
    pub(crate) gate: Option<Projection<'a>>,
    pub(crate) up: Projection<'a>,
    pub(crate) down: Projection<'a>,
}

impl FusedMlp<'_> {
    /// `y = down(function(gate(x), up(x)))`.
    pub(crate) fn run<I: InnerFunction>(&self, function: I, y: &mut [f32]) {
        let (k, inner) = (self.up.0.columns(), self.down.0.columns());
        let rows = self.x.len() / k;
        let (n, slab_rows) = (y.len() / rows, self.slab_rows(rows));
        for (slab, y) in y.chunks_mut(slab_rows * n).enumerate() {
            let (isa, precision, m) = (self.isa, self.precision, y.len() / n);
            let shape = |k| Shape { isa, precision, geometry: Geometry::of(isa, precision), m, k };
            let (outer, inner) = (shape(k), shape(inner));
            let mut scratch = Scratch::take(outer.units() + inner.units());
            let (units, inner_units) = scratch.as_mut_slice().split_at_mut(outer.units());
            outer.pack(self.x.slice(slab * slab_rows * k, m * k), units);
            self.write_inner(outer, units, inner, function, SharedMut::new(inner_units));
            write_product(inner, inner_units, self.down.0, self.down.1, y);
        }
    }

    /// Rows that are packed at a time: what the scratch memory holds of input and inner values, but a block at least.
    fn slab_rows(&self, rows: usize) -> usize {
        let geometry = Geometry::of(self.isa, self.precision);
        let panel = geometry.panel();
        let lines = geometry.lines(self.up.0.columns()) + geometry.lines(self.down.0.columns());
        let most = SCRATCH_BYTES / (lines * LINE * size_of::<f32>());
        even_parts(rows, (most / panel * panel).max(LARGEST_BLOCK), panel)
    }

    /// The inner values of all rows, as units of the last product.
    fn write_inner<I: InnerFunction>(
        &self,
        outer: Shape,
        units: &[f32],
        inner: Shape,
        function: I,
        out: SharedMut,
    ) {
        for_each_block(outer, inner.k, |first_row, rows, first_column, columns| {
            let block = |w| Block { shape: outer, units, w, first_row, rows, first_column, columns };
            let up = block(self.up.0);
            let stride = up.stride();
            let size = CHUNK * stride;
            let mut scratch = Scratch::take(2 * size + GROUPS);
            let (up_sums, rest) = scratch.as_mut_slice().split_at_mut(size);
            let (gate_sums, groups) = rest.split_at_mut(size);
            up.sum(up_sums, groups);
            let gate = self.gate.map(|(w, bias)| {
                block(w).sum(gate_sums, groups);
                (&*gate_sums, bias)
            });
            let write =
                WriteInner { block: up, stride, up: up_sums, bias: self.up.1, gate, function, inner, out };
            dispatch_product(self.isa, self.precision, write);
        });
    }
}

/// Turns sums, `[column][row]`, into units of inner values.
struct WriteInner<'a, I> {
    block: Block<'a>,
    stride: usize,
    /// Replaced by the inner values.
    up: &'a mut [f32],
    bias: Option<&'a [f32]>,
    /// The sums of the gate, and its bias.
    gate: Option<(&'a [f32], Option<&'a [f32]>)>,
    function: I,
    inner: Shape,
    out: SharedMut,
}

impl<I: InnerFunction> ProductKernel for WriteInner<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(mut self, a: A) {
        for column in 0..self.block.columns {
            self.apply(a, column);
        }
        // Units past the last column are zero.
        let (width, stride) = (LINE * A::VALUES, self.stride);
        let padded = self.block.columns.next_multiple_of(width);
        self.up[self.block.columns * stride..padded * stride].fill(0.0);
        for column in (0..padded).step_by(width) {
            for panel in self.block.shape.panels(self.block.first_row, self.block.first_row + self.block.rows)
            {
                self.write_line(a, column, panel);
            }
        }
    }
}

impl<I: InnerFunction> WriteInner<'_, I> {
    /// The function of a column of sums.
    #[inline(always)]
    fn apply<A: Arithmetic>(&mut self, a: A, column: usize) {
        let s = a.simd();
        let at = self.block.first_column + column;
        let bias = |bias: Option<&[f32]>| s.splat(bias.map_or(0.0, |bias| bias[at]));
        let places = column * self.stride..(column + 1) * self.stride;
        let (up_bias, up) = (bias(self.bias), &mut self.up[places.clone()]);
        match self.gate {
            Some((gate, gate_bias)) => {
                let gate_bias = bias(gate_bias);
                let gates = gate[places].chunks_exact(A::S::LANES);
                for (up, gate) in up.chunks_exact_mut(A::S::LANES).zip(gates) {
                    let (g, u) = (s.add(s.load(gate), gate_bias), s.add(s.load(up), up_bias));
                    s.store(up, self.function.value(s, g, u));
                }
            }
            None => {
                for up in up.chunks_exact_mut(A::S::LANES) {
                    let u = s.add(s.load(up), up_bias);
                    s.store(up, self.function.value(s, u, u));
                }
            }
        }
    }

    /// The line of inner values that begins with `column`, for the rows of a panel.
    #[inline(always)]
    fn write_line<A: Arithmetic>(&self, a: A, column: usize, panel: Panel) {
        let width = LINE * A::VALUES;
        let depth = self.inner.depth_of_line((self.block.first_column + column) / width);
        let line = (self.block.first_column + column) / width - depth.first;
        let place = self.inner.place(depth, panel) + line * LINE * panel.lanes;
        for unit in 0..LINE {
            let from = (column + unit * A::VALUES) * self.stride + panel.first - self.block.first_row;
            for lane in (0..panel.lanes).step_by(A::S::LANES) {
                // SAFETY: the sums have whole lines of columns, `stride` apart, of at least as many rows as the panels of
                // the block have lanes; and these units belong to the rows and columns of this block alone.
                unsafe {
                    let units = a.load_rows(self.up.as_ptr().add(from + lane), self.stride);
                    a.simd().store_at(self.out.at(place + unit * panel.lanes + lane), units);
                }
            }
        }
    }
}
