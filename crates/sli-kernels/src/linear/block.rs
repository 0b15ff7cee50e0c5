//! The sums of a block of a product. A group of rows of w is packed at a time, which is where they are dequantised, and
//! multiplied with every panel of the block. Sums stay transposed until they are complete.

use super::panels::{DEPTH, Depth, Shape};
use crate::formats::Storage;
use crate::product::{Ahead, Combine, GROUP, LINE, Layout, Lines, Tile, Weights};

/// Rows of w in a block.
pub(super) const CHUNK: usize = 4 * GROUP;
/// Values of working memory: two groups at a depth.
pub(super) const GROUPS: usize = 2 * GROUP * DEPTH * LINE;

/// A block of y: rows of x by rows of w (columns of y).
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) shape: Shape,
    pub(super) units: &'a [f32],
    pub(super) w: &'a dyn Weights,
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) first_column: usize,
    pub(super) columns: usize,
}

/// A step of a task: a group of rows of w (from `row` on, counted within the task) at a depth.
#[derive(Clone, Copy)]
struct Step {
    row: usize,
    rows: usize,
    depth: Depth,
}

impl Block<'_> {
    /// The distance between columns of sums.
    pub(super) fn stride(&self) -> usize {
        self.rows.next_multiple_of(self.shape.geometry.lanes)
    }

    /// The sums `[column][row]`, columns [`Block::stride`] apart, with room for [`CHUNK`] of them; `groups` is working
    /// memory of [`GROUPS`].
    pub(super) fn sum(&self, sums: &mut [f32], groups: &mut [f32]) {
        let Shape { isa, precision, geometry, k, .. } = self.shape;
        let stride = self.stride();
        // While a group is multiplied the next one is copied to the other place, where it needs no decoding.
        let (mut current, mut other) = groups.split_at_mut(GROUPS / 2);
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
