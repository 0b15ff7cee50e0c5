//! Terms of scores that depend on how far apart query and key are (He et al. 2021, DeBERTa), for a tile of queries and a
//! group of keys at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::Attention;
use super::operands::pack_groups;
use crate::isa::Isa;
use crate::linear::Activations;
use crate::product::{
    Ahead, Arithmetic, Combine, GROUP, Geometry, LINE, Layout, Precision, ProductKernel, Tile,
    dispatch_product, pack_activations,
};
use crate::scratch::{Buffer, SharedMut};

/// For the query at position i and the key at position j of a sample, `q_i . keys[r] + queries[r] . k_j` is added to
/// `q_i . k_j`, where r is the row of the distance i - j. Each head has columns of its own in these rows.
#[derive(Clone, Copy, Debug)]
pub struct Disentangled<'a> {
    /// `[rows, num_heads * head_dim]`, met by queries.
    pub keys: Option<&'a [f32]>,
    /// `[rows, num_heads * head_dim]`, met by keys.
    pub queries: Option<&'a [f32]>,
    /// The rows of all distances from `1 - span` to `span - 1`, for samples of up to `span` tokens. They never fall.
    pub row_of: &'a [u32],
}

impl Disentangled<'_> {
    /// # Panics
    /// Where rows are missing.
    pub(super) fn check(&self, a: &Attention, longest: usize) {
        let Attention { num_heads, num_kv_heads, head_dim, .. } = *a;
        assert_eq!(
            num_heads, num_kv_heads,
            "attention: terms by distance need a key head for each query head"
        );
        let distances = self.row_of.len();
        assert!(distances % 2 == 1 && distances + 1 >= 2 * longest, "attention: a row for each distance");
        assert!(self.row_of.is_sorted(), "attention: rows of distances fall");
        let last = self.row_of.last().map_or(0, |row| *row as usize);
        for rows in [self.keys, self.queries].into_iter().flatten() {
            assert!(rows.len() > last * num_heads * head_dim, "attention: no row {last} for distances");
            assert!(
                rows.len().is_multiple_of(num_heads * head_dim),
                "attention: length of rows for distances"
            );
        }
    }

    /// The row of the distance of query `i` to key `j`, and those of the queries after it.
    #[inline(always)]
    fn rows(&self, i: usize, j: usize) -> &[u32] {
        &self.row_of[self.row_of.len() / 2 + i - j..]
    }

    /// The rows of the distances of these queries to these keys, from the first to the last.
    fn range(&self, queries: Range<usize>, keys: Range<usize>) -> Range<usize> {
        let row = |i, j| self.rows(i, j)[0] as usize;
        row(queries.start, keys.end - 1)..row(queries.end - 1, keys.start) + 1
    }
}

/// The operands of the terms in units, head by head.
pub(super) struct Terms<'a> {
    of: Disentangled<'a>,
    head_lines: usize,
    /// Lanes of a panel of rows that keys meet.
    panel: usize,
    /// Lanes of all panels that a tile of queries needs for a group of keys, at most.
    widest: usize,
    /// In groups of 24, as keys are.
    keys: Option<Packed>,
    /// In panels, as queries are.
    queries: Option<Packed>,
}

struct Packed {
    units: Buffer,
    head_stride: usize,
}

impl Packed {
    fn head(&self, head: usize) -> &[f32] {
        &self.units.as_slice()[head * self.head_stride..][..self.head_stride]
    }
}

impl<'a> Terms<'a> {
    pub(super) fn pack(
        a: &Attention,
        isa: Isa,
        precision: Precision,
        geometry: Geometry,
        of: Disentangled<'a>,
    ) -> Self {
        let (head_lines, panel) = (geometry.lines(a.head_dim), geometry.panel());
        let packed = |rows: &[f32], layout| {
            let count = rows.len() / (a.num_heads * a.head_dim);
            let head_stride = count.next_multiple_of(layout) * head_lines * LINE;
            let mut units = Buffer::zeros(a.num_heads * head_stride);
            let shared = SharedMut::new(units.as_mut_slice());
            (0..a.num_heads).into_par_iter().for_each(|head| {
                // SAFETY: each head has a part of its own.
                let out = unsafe { shared.at(head * head_stride) };
                dispatch_product(isa, precision, Pack { a, rows, count, head, head_lines, layout, out });
            });
            Packed { units, head_stride }
        };
        // Distances of a tile of queries to a group of keys.
        let distances = (panel + GROUP - 1).min(of.row_of.len().max(1));
        let panels = of.row_of.windows(distances).map(|rows| {
            let (first, last) = (rows[0] as usize, rows[distances - 1] as usize);
            last / panel - first / panel + 1
        });
        Self {
            of,
            head_lines,
            panel,
            widest: panels.max().unwrap_or(0) * panel,
            keys: of.keys.map(|rows| packed(rows, GROUP)),
            queries: of.queries.map(|rows| packed(rows, panel)),
        }
    }

    /// f32 values that a tile of these queries works on, in samples of so many keys.
    pub(super) fn scratch(&self, queries: Range<usize>, keys: usize, lanes: usize) -> usize {
        let rows = whole_groups(self.of.range(queries, 0..keys)).len();
        let by_query = if self.keys.is_some() { rows * lanes } else { 0 };
        let by_key = if self.queries.is_some() { GROUP * self.widest } else { 0 };
        by_query + by_key
    }

    /// The terms of a tile: `queries` of one head, which lie across `lanes` lanes of units at `x`, and a sample's keys.
    ///
    /// # Safety
    /// All units of the lanes can be read at `x`, and `scratch` is as long as [`Terms::scratch`] says.
    pub(super) unsafe fn tile<'s>(
        &'s self,
        (isa, precision): (Isa, Precision),
        head: usize,
        queries: Range<usize>,
        keys: usize,
        (x, lanes): (*const f32, usize),
        scratch: &'s mut [f32],
    ) -> TileTerms<'s> {
        let rows = whole_groups(self.of.range(queries.clone(), 0..keys));
        let length = if self.keys.is_some() { rows.len() * lanes } else { 0 };
        let (by_query, by_key) = scratch.split_at_mut(length);
        if let Some(packed) = &self.keys {
            let tile = Tile {
                lanes,
                rows: rows.len(),
                lines: self.head_lines,
                x,
                w: packed.head(head)[rows.start * self.head_lines * LINE..].as_ptr(),
                layout: Layout::Grouped,
                out: by_query.as_mut_ptr(),
                stride: lanes,
                combine: Combine::Store,
                ahead: Ahead::default(),
            };
            for group in (0..rows.len()).step_by(GROUP) {
                let (w, out) = (group * self.head_lines * LINE, group * lanes);
                let tile =
                    Tile { rows: GROUP, w: tile.w.wrapping_add(w), out: tile.out.wrapping_add(out), ..tile };
                // SAFETY: the groups are whole and lie within the head's, and so do their places.
                unsafe { tile.run(isa, precision) };
            }
        }
        TileTerms { terms: self, isa, precision, head, queries, lanes, first: rows.start, by_query, by_key }
    }
}

/// These rows and those before and after them in the same groups of 24.
fn whole_groups(rows: Range<usize>) -> Range<usize> {
    rows.start / GROUP * GROUP..rows.end.next_multiple_of(GROUP)
}

/// The terms of a tile of queries of one head.
pub(super) struct TileTerms<'s> {
    terms: &'s Terms<'s>,
    isa: Isa,
    precision: Precision,
    head: usize,
    queries: Range<usize>,
    lanes: usize,
    /// What all queries have with the rows from `first` on, `[row][lane]`.
    first: usize,
    by_query: &'s [f32],
    /// What the keys of a group have with some rows, `[key][row]`.
    by_key: &'s mut [f32],
}

impl TileTerms<'_> {
    /// Adds the terms of the keys at these positions, at most 24, to scores, `[key][lane]`.
    ///
    /// # Safety
    /// `w` is the packed group of these keys.
    #[inline(always)]
    pub(super) unsafe fn add(&mut self, keys: Range<usize>, w: *const f32, scores: &mut [f32]) {
        let (terms, queries, lanes) = (self.terms, self.queries.clone(), self.lanes);
        if terms.keys.is_some() {
            for (j, row) in keys.clone().zip(scores.chunks_exact_mut(lanes)) {
                let rows = &terms.of.rows(queries.start, j)[..queries.len()];
                for (lane, (score, r)) in row.iter_mut().zip(rows).enumerate() {
                    *score += self.by_query[(*r as usize - self.first) * lanes + lane];
                }
            }
        }
        if let Some(packed) = &terms.queries {
            let rows = terms.of.range(queries.clone(), keys.clone());
            let panels = rows.start / terms.panel..rows.end.div_ceil(terms.panel);
            let (first, units) = (panels.start * terms.panel, terms.panel * terms.head_lines * LINE);
            for (place, panel) in panels.enumerate() {
                let tile = Tile {
                    lanes: terms.panel,
                    rows: keys.len(),
                    lines: terms.head_lines,
                    x: packed.head(self.head)[panel * units..][..units].as_ptr(),
                    w,
                    layout: Layout::Grouped,
                    out: self.by_key[place * terms.panel..].as_mut_ptr(),
                    stride: terms.widest,
                    combine: Combine::Store,
                    ahead: Ahead::default(),
                };
                // SAFETY: the caller vouches for the group; there is room for 24 keys and all panels.
                unsafe { tile.run(self.isa, self.precision) };
            }
            let by_key = self.by_key.chunks_exact(terms.widest);
            for ((j, row), by_row) in keys.zip(scores.chunks_exact_mut(lanes)).zip(by_key) {
                let rows = &terms.of.rows(queries.start, j)[..queries.len()];
                for (score, r) in row.iter_mut().zip(rows) {
                    *score += by_row[*r as usize - first];
                }
            }
        }
    }
}

/// Packs the rows of one head: in groups where `layout` is 24, else in panels of so many lanes.
struct Pack<'a> {
    a: &'a Attention<'a>,
    rows: &'a [f32],
    count: usize,
    head: usize,
    head_lines: usize,
    layout: usize,
    out: *mut f32,
}

impl ProductKernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, arithmetic: A) {
        let Self { a, rows, count, head, head_lines, layout, out } = self;
        let (width, stride) = (a.head_dim, a.num_heads * a.head_dim);
        if layout == GROUP {
            // SAFETY: the head's place has the lines of all groups.
            return unsafe {
                pack_groups(arithmetic, rows, stride, 0..count, head * width, width, head_lines, out)
            };
        }
        for row in (0..count).step_by(layout) {
            let (first, rows) = (row * stride + head * width, layout.min(count - row));
            // SAFETY: the head's place has all lines of all panels.
            unsafe {
                let (x, out) = (Activations::F32(self.rows), out.add(row * head_lines * LINE));
                pack_activations(arithmetic, x, first, stride, rows, width, layout, out);
            }
        }
    }
}
