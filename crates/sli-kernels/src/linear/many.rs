//! Products of many rows of x. They are packed into panels once; then tasks of a chunk of rows of w by a block of
//! rows of x run in parallel. A task packs a group of rows of w at a time, which is where they are dequantised, and
//! multiplies it with every panel of its block. Its sums stay transposed in scratch memory until they are complete.

use rayon::prelude::*;

use super::Activations;
use crate::formats::Storage;
use crate::isa::Isa;
use crate::product::{
    Ahead, Arithmetic, Combine, GROUP, Geometry, LINE, Layout, Lines, Precision, ProductKernel, Tile,
    Weights, dispatch_product, pack_activations,
};
use crate::scratch::{SCRATCH_BYTES, Scratch, SharedMut};
use crate::simd::Simd;

/// Rows of w in a task.
const CHUNK: usize = 4 * GROUP;
/// Rows of x in a task: a block of [`DEPTH`] lines of them stays in the second-level cache.
const BLOCK: usize = 256;
/// Lines of k in a block.
const DEPTH: usize = 16;

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
    let rows = SCRATCH_BYTES / (geometry.lines(k) * LINE * size_of::<f32>());
    let unit = if rows < BLOCK { geometry.panel() } else { BLOCK };
    let slab_rows = (rows / unit * unit).max(geometry.panel());
    for (slab, y) in y.chunks_mut(slab_rows * n).enumerate() {
        let shape = Shape { isa, precision, geometry, m: y.len() / n, k };
        let mut units = Scratch::take(shape.units());
        shape.pack(x.slice(slab * slab_rows * k, shape.m * k), units.as_mut_slice());
        let (chunks, blocks) = (n.div_ceil(CHUNK), shape.m.div_ceil(BLOCK));
        let (units, y) = (units.as_slice(), SharedMut::new(y));
        (0..chunks * blocks).into_par_iter().for_each(|task| {
            let (row, column) = (task / chunks * BLOCK, task % chunks * CHUNK);
            let task = Task {
                shape,
                units,
                w,
                bias,
                first_row: row,
                rows: BLOCK.min(shape.m - row),
                first_column: column,
                columns: CHUNK.min(n - column),
                n,
                y,
            };
            task.run();
        });
    }
}

/// How the rows of x are packed: for each block of k, for each panel, `[unit][lane]`.
#[derive(Clone, Copy)]
struct Shape {
    isa: Isa,
    precision: Precision,
    geometry: Geometry,
    /// Rows of x.
    m: usize,
    k: usize,
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

/// Packs a panel of x at `out`.
struct PackPanel<'a> {
    x: Activations<'a>,
    shape: Shape,
    panel: Panel,
    depth: Depth,
    out: SharedMut,
}

impl ProductKernel for PackPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, a: A) {
        let Shape { m, k, .. } = self.shape;
        let Panel { first, lanes } = self.panel;
        let columns = self.depth.columns(LINE * A::VALUES, k);
        let place = self.shape.place(self.depth, self.panel);
        let at = first * k + columns.start;
        // SAFETY: the place lies within the units and belongs to this panel and depth alone.
        unsafe {
            pack_activations(
                a,
                self.x,
                at,
                k,
                lanes.min(m - first),
                columns.len(),
                lanes,
                self.out.at(place),
            );
        }
    }
}

impl Depth {
    /// The values of x or w that belong to it, with `width` values in a line.
    fn columns(self, width: usize, k: usize) -> std::ops::Range<usize> {
        self.first * width..k.min((self.first + self.lines) * width)
    }
}

impl Shape {
    /// Units of all rows.
    fn units(self) -> usize {
        self.padded_rows() * self.geometry.lines(self.k) * LINE
    }

    fn pack(self, x: Activations, units: &mut [f32]) {
        let out = SharedMut::new(units);
        let depths = (0..).map_while(|index| self.depth(index));
        let parts: Vec<_> =
            depths.flat_map(|depth| self.panels(0, self.m).map(move |panel| (depth, panel))).collect();
        parts.into_par_iter().for_each(|(depth, panel)| {
            dispatch_product(self.isa, self.precision, PackPanel { x, shape: self, panel, depth, out });
        });
    }

    /// Rows of x rounded up to whole vectors.
    fn padded_rows(self) -> usize {
        self.m.next_multiple_of(self.geometry.lanes)
    }

    /// The blocks of k, one after another.
    fn depth(self, index: usize) -> Option<Depth> {
        let (lines, first) = (self.geometry.lines(self.k), index * DEPTH);
        (first < lines).then(|| Depth { first, lines: DEPTH.min(lines - first) })
    }

    /// The panels of rows `first..end`.
    fn panels(self, first: usize, end: usize) -> impl Iterator<Item = Panel> {
        let (panel, lanes) = (self.geometry.panel(), self.geometry.lanes);
        (first..end)
            .step_by(panel)
            .map(move |first| Panel { first, lanes: panel.min((end - first).next_multiple_of(lanes)) })
    }

    /// Where a part of x begins in `units`.
    fn place(self, depth: Depth, panel: Panel) -> usize {
        (depth.first * self.padded_rows() + panel.first * depth.lines) * LINE
    }
}

/// A block of y: rows of x by rows of w (columns of y).
#[derive(Clone, Copy)]
struct Task<'a> {
    shape: Shape,
    units: &'a [f32],
    w: &'a dyn Weights,
    bias: Option<&'a [f32]>,
    first_row: usize,
    rows: usize,
    first_column: usize,
    columns: usize,
    n: usize,
    y: SharedMut,
}

/// A step of a task: a group of rows of w (from `row` on, counted within the task) at a depth.
#[derive(Clone, Copy)]
struct Step {
    row: usize,
    rows: usize,
    depth: Depth,
}

impl Task<'_> {
    fn run(self) {
        let Shape { isa, precision, geometry, k, .. } = self.shape;
        let stride = self.rows.next_multiple_of(geometry.lanes);
        let group = GROUP * DEPTH * LINE;
        let mut scratch = Scratch::take(CHUNK * stride + 2 * group);
        let (sums, groups) = scratch.as_mut_slice().split_at_mut(CHUNK * stride);
        // While a group is multiplied the next one is copied to the other place, where it needs no decoding.
        let (mut current, mut other) = groups.split_at_mut(group);
        let mut copied = false;
        for index in 0.. {
            let Some(step) = self.step(index) else { break };
            if !copied {
                let row = self.first_column + step.row;
                let columns = step.depth.columns(LINE * geometry.values, k);
                let out = current.as_mut_ptr();
                // SAFETY: the rows and columns exist, and `current` holds DEPTH lines of 24 rows.
                unsafe {
                    self.w.pack(isa, precision, row..row + step.rows, columns, out, LINE, GROUP * LINE, 0)
                };
            }
            let ahead = self.ahead(index, step, other);
            copied = ahead.copy.is_some();
            self.multiply(step, current, sums, stride, ahead);
            if copied {
                std::mem::swap(&mut current, &mut other);
            }
        }
        dispatch_product(isa, precision, WriteOut { task: self, sums, stride });
    }

    /// Steps go through the rows of the task at the first depth, then at the next one.
    fn step(&self, index: usize) -> Option<Step> {
        let groups = self.columns.div_ceil(GROUP);
        let row = index % groups * GROUP;
        let depth = self.shape.depth(index / groups)?;
        Some(Step { row, rows: GROUP.min(self.columns - row), depth })
    }

    /// Adds the products of a group with all panels to the sums.
    fn multiply(&self, step: Step, group: &[f32], sums: &mut [f32], stride: usize, mut ahead: Ahead) {
        for panel in self.shape.panels(self.first_row, self.first_row + self.rows) {
            let tile = Tile {
                lanes: panel.lanes,
                rows: step.rows,
                lines: step.depth.lines,
                x: self.units[self.shape.place(step.depth, panel)..].as_ptr(),
                w: group.as_ptr(),
                layout: Layout::Grouped,
                out: sums[step.row * stride + panel.first - self.first_row..].as_mut_ptr(),
                stride,
                combine: if step.depth.first == 0 { Combine::Store } else { Combine::Add },
                ahead,
            };
            // SAFETY: the panel and the group have the lines of this depth; the group has 24 rows, and so have the
            // sums from this row on, since CHUNK is a multiple of GROUP. See `ahead` for what it copies.
            unsafe { tile.run(self.shape.isa, self.shape.precision) };
            ahead = Ahead::default();
        }
    }

    /// What to do for later steps during `step`: copy the next group to `place`, if it is whole and needs no decoding,
    /// and prefetch the one that is packed or copied thereafter.
    fn ahead(&self, index: usize, step: Step, place: &mut [f32]) -> Ahead {
        let Shape { precision, geometry, k, .. } = self.shape;
        let Storage { start, pitch, bits, encoding } = self.w.storage();
        let values = LINE * geometry.values;
        let lines = |step: Step| {
            let line = values * bits / 8;
            let offset = (self.first_column + step.row) * pitch + step.depth.first * line;
            Lines { start: start.wrapping_add(offset), pitch, line }
        };
        let whole = |next: &Step| {
            let end = (next.depth.first + next.depth.lines) * values;
            step.rows == GROUP && next.rows == GROUP && next.depth.lines == step.depth.lines && end <= k
        };
        let direct = geometry.stores(encoding, precision);
        let next = self.step(index + 1).filter(whole).filter(|_| direct);
        let copy = next.map(|next| (lines(next), place.as_mut_ptr()));
        let later = self.step(if copy.is_some() { index + 2 } else { index + 1 });
        Ahead { prefetch: later.map(lines), copy }
    }
}

/// Turns sums, `[column][row]`, into rows of y and adds the bias.
struct WriteOut<'a> {
    task: Task<'a>,
    sums: &'a [f32],
    stride: usize,
}

impl ProductKernel for WriteOut<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, a: A) {
        let Self { task, sums, stride } = self;
        let (s, lanes) = (a.simd(), A::S::LANES);
        let mut turned = [[0.0; LINE]; LINE];
        // Rows outside: what a task writes of a row of y is contiguous.
        for row in (0..task.rows).step_by(lanes) {
            for column in (0..task.columns).step_by(lanes) {
                let width = lanes.min(task.columns - column);
                let bias = match task.bias {
                    Some(bias) => s.load_partial(&bias[task.first_column + column..][..width], 0.0),
                    None => s.splat(0.0),
                };
                // SAFETY: the sums have CHUNK rows, a multiple of LANES, of `stride` values, another one.
                unsafe {
                    let from = sums[column * stride + row..].as_ptr();
                    s.transpose(from, stride, turned.as_mut_ptr().cast(), LINE);
                }
                for (i, turned) in turned[..lanes.min(task.rows - row)].iter().enumerate() {
                    let at = (task.first_row + row + i) * task.n + task.first_column + column;
                    // SAFETY: these values of y belong to this task alone.
                    let y = unsafe { std::slice::from_raw_parts_mut(task.y.at(at), width) };
                    let values = s.add(s.load(turned), bias);
                    if width == lanes { s.store(y, values) } else { s.store_partial(y, values) }
                }
            }
        }
    }
}
