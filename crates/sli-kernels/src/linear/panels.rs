//! How rows of x lie while tiles are multiplied with them: by blocks of the summed dimension, and within these by panels
//! of rows.

use rayon::prelude::*;

use super::Activations;
use crate::isa::Isa;
use crate::product::{
    Arithmetic, Geometry, LINE, Precision, ProductKernel, dispatch_product, pack_activations,
};
use crate::scratch::SharedMut;

/// Rows of x that a task works on, at most: a block of [`DEPTH`] lines of them stays in the second-level cache.
pub(super) const BLOCK: usize = 256;
/// So many rows are one block still: a second one would decode all weights again for a few rows.
pub(super) const LARGEST_BLOCK: usize = 384;
/// Lines of k in a block.
pub(super) const DEPTH: usize = 16;

/// The size of as few parts of `rows` as there can be, all but the last whole units and about as large, where none is
/// larger than `most`, which is whole units.
pub(super) fn even_parts(rows: usize, most: usize, unit: usize) -> usize {
    rows.div_ceil(rows.div_ceil(most).max(1)).next_multiple_of(unit)
}

/// How the rows of x are packed: for each block of k, for each panel, `[unit][lane]`.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) isa: Isa,
    pub(super) precision: Precision,
    pub(super) geometry: Geometry,
    /// Rows of x.
    pub(super) m: usize,
    pub(super) k: usize,
}

/// A part of k: lines from `first` on, `lines` of them.
#[derive(Clone, Copy)]
pub(super) struct Depth {
    pub(super) first: usize,
    pub(super) lines: usize,
}

/// A part of x: rows from `first` on, as many lanes as it is packed in.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub(super) first: usize,
    pub(super) lanes: usize,
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
    pub(super) fn columns(self, width: usize, k: usize) -> std::ops::Range<usize> {
        self.first * width..k.min((self.first + self.lines) * width)
    }
}

impl Shape {
    /// Units of all rows.
    pub(super) fn units(self) -> usize {
        self.padded_rows() * self.geometry.lines(self.k) * LINE
    }

    pub(super) fn pack(self, x: Activations, units: &mut [f32]) {
        let out = SharedMut::new(units);
        let depths = (0..).map_while(|index| self.depth(index));
        let parts: Vec<_> =
            depths.flat_map(|depth| self.panels(0, self.m).map(move |panel| (depth, panel))).collect();
        parts.into_par_iter().for_each(|(depth, panel)| {
            dispatch_product(self.isa, self.precision, PackPanel { x, shape: self, panel, depth, out });
        });
    }

    /// Rows of x rounded up to whole vectors.
    pub(super) fn padded_rows(self) -> usize {
        self.m.next_multiple_of(self.geometry.lanes)
    }

    /// Rows of each block, whole panels.
    pub(super) fn block_rows(self) -> usize {
        let most = if self.m <= LARGEST_BLOCK { LARGEST_BLOCK } else { BLOCK };
        even_parts(self.m, most, self.geometry.panel())
    }

    /// The blocks of k, one after another.
    pub(super) fn depth(self, index: usize) -> Option<Depth> {
        let (lines, first) = (self.geometry.lines(self.k), index * DEPTH);
        (first < lines).then(|| Depth { first, lines: DEPTH.min(lines - first) })
    }

    /// The block of k to which a line belongs.
    pub(super) fn depth_of_line(self, line: usize) -> Depth {
        let first = line / DEPTH * DEPTH;
        Depth { first, lines: DEPTH.min(self.geometry.lines(self.k) - first) }
    }

    /// The panels of rows `first..end`.
    pub(super) fn panels(self, first: usize, end: usize) -> impl Iterator<Item = Panel> {
        let (panel, lanes) = (self.geometry.panel(), self.geometry.lanes);
        (first..end)
            .step_by(panel)
            .map(move |first| Panel { first, lanes: panel.min((end - first).next_multiple_of(lanes)) })
    }

    /// Where a part of x begins in `units`.
    pub(super) fn place(self, depth: Depth, panel: Panel) -> usize {
        (depth.first * self.padded_rows() + panel.first * depth.lines) * LINE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_few_and_even() {
        let size = |rows| even_parts(rows, 384, 64);
        assert_eq!([1, 64, 290, 384].map(size), [64, 64, 320, 384], "one part");
        assert_eq!([385, 512, 1024].map(size), [256, 256, 384]);
        assert!((1..3000).all(|rows| size(rows) <= 384 && rows.div_ceil(size(rows)) == rows.div_ceil(384)));
    }
}
