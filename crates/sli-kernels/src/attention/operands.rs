//! Keys and values in units.

use std::ops::Range;

use rayon::prelude::*;

use super::Attention;
use crate::formats::PlainRows;
use crate::isa::Isa;
use crate::product::{
    Arithmetic, GROUP, Geometry, LINE, Precision, ProductKernel, dispatch_product, pack_rows,
};
use crate::scratch::{Buffer, SharedMut};
use crate::simd::Simd;

/// Keys and values as they come, and how they are packed, head by head:
/// * keys as groups of 24 rows, `[group][line of head_dim][24][16]`;
/// * values with units along keys, `[unit][value_dim rounded up to 24]`, zero-padded to whole lines of units.
#[derive(Clone, Copy)]
pub(super) struct Unpacked<'a> {
    a: &'a Attention<'a>,
    isa: Isa,
    precision: Precision,
    geometry: Geometry,
    key: &'a [f32],
    value: &'a [f32],
}

/// The packed keys and values of a sample and one of its heads of keys.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
}

impl<'a> Unpacked<'a> {
    pub(super) fn new(
        a: &'a Attention<'a>,
        (isa, precision, geometry): (Isa, Precision, Geometry),
        key: &'a [f32],
        value: &'a [f32],
    ) -> Self {
        Self { a, isa, precision, geometry, key, value }
    }

    /// Units of a line of keys, per group.
    pub(super) fn head_lines(&self) -> usize {
        self.geometry.lines(self.a.head_dim)
    }

    /// Distance between units of values.
    pub(super) fn value_stride(&self) -> usize {
        self.a.value_dim.next_multiple_of(GROUP)
    }

    /// The units of keys and of values that so many rows take.
    pub(super) fn lengths(&self, rows: usize) -> [usize; 2] {
        [
            rows.next_multiple_of(GROUP) * self.head_lines() * LINE,
            self.geometry.lines(rows) * LINE * self.value_stride(),
        ]
    }

    /// Packs a head of these rows.
    pub(super) fn pack<'p>(
        &self,
        rows: Range<usize>,
        head: usize,
        keys: &'p mut [f32],
        values: &'p mut [f32],
    ) -> Packed<'p> {
        let lengths = self.lengths(rows.len());
        assert_eq!([keys.len(), values.len()], lengths, "attention: room for keys and values");
        let (keys_at, values_at) = (keys.as_mut_ptr(), values.as_mut_ptr());
        let pack = Pack { all: *self, rows, head, keys: keys_at, values: values_at };
        dispatch_product(self.isa, self.precision, pack);
        Packed { keys, values }
    }
}

/// Packed keys and values of some samples, all heads of each.
pub(super) struct Operands {
    /// Where the keys and the values of each sample's first head begin, and the distances to the next head.
    samples: Vec<Place>,
    keys: Buffer,
    values: Buffer,
}

#[derive(Clone, Copy)]
struct Place {
    starts: [usize; 2],
    strides: [usize; 2],
}

impl Place {
    fn head(self, head: usize) -> [Range<usize>; 2] {
        [0, 1].map(|i| {
            let start = self.starts[i] + head * self.strides[i];
            start..start + self.strides[i]
        })
    }
}

impl Operands {
    /// Packs these samples, given by their rows.
    pub(super) fn pack(all: Unpacked, samples: &[Range<usize>]) -> Self {
        let heads = all.a.num_kv_heads;
        let (mut lengths, mut places) = ([0, 0], Vec::with_capacity(samples.len()));
        for rows in samples {
            let strides = all.lengths(rows.len());
            places.push(Place { starts: lengths, strides });
            lengths = [0, 1].map(|i| lengths[i] + heads * strides[i]);
        }
        let [mut keys, mut values] = lengths.map(Buffer::zeros);
        let shared = [keys.as_mut_slice(), values.as_mut_slice()].map(SharedMut::new);
        (0..samples.len() * heads).into_par_iter().for_each(|task| {
            let (sample, head) = (task / heads, task % heads);
            let [keys, values] = [0, 1].map(|i| {
                let place = places[sample].head(head)[i].clone();
                // SAFETY: the place lies in the buffer and belongs to this sample and head alone.
                unsafe { std::slice::from_raw_parts_mut(shared[i].at(place.start), place.len()) }
            });
            all.pack(samples[sample].clone(), head, keys, values);
        });
        Self { samples: places, keys, values }
    }

    /// One of the samples, and one of its heads of keys.
    pub(super) fn of(&self, sample: usize, head: usize) -> Packed<'_> {
        let [keys, values] = self.samples[sample].head(head);
        Packed { keys: &self.keys.as_slice()[keys], values: &self.values.as_slice()[values] }
    }
}

/// Packs one head of some rows.
struct Pack<'a> {
    all: Unpacked<'a>,
    rows: Range<usize>,
    head: usize,
    keys: *mut f32,
    values: *mut f32,
}

impl ProductKernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, a: A) {
        let Attention { num_kv_heads, head_dim, .. } = *self.all.a;
        let (count, stride) = (self.rows.len(), self.all.value_stride());
        // SAFETY: `Unpacked::pack` gives room for whole groups of keys.
        unsafe {
            let (all, rows) = (num_kv_heads * head_dim, self.rows.clone());
            let column = self.head * head_dim;
            pack_groups(a, self.all.key, all, rows, column, head_dim, self.all.head_lines(), self.keys);
        }
        for (unit, row) in (0..count).step_by(A::VALUES).enumerate() {
            // SAFETY: and for a unit of `stride` columns for each of these rows.
            unsafe { self.pack_unit(a, row, self.values.add(unit * stride)) };
        }
        let (packed, [_, all]) = (count.div_ceil(A::VALUES) * stride, self.all.lengths(count));
        // SAFETY: and for whole lines of units.
        unsafe { std::slice::from_raw_parts_mut(self.values.add(packed), all - packed) }.fill(0.0);
    }
}

/// The `width` values from `column` on of these rows of `values`, which are `stride` apart, in groups of 24 rows: each
/// `[line of head_lines][24][16]`.
/// # Safety
/// As many groups can be written at `out`.
#[inline(always)]
pub(super) unsafe fn pack_groups<A: Arithmetic>(
    a: A,
    values: &[f32],
    stride: usize,
    rows: Range<usize>,
    column: usize,
    width: usize,
    head_lines: usize,
    out: *mut f32,
) {
    let all = PlainRows { values, columns: stride };
    for row in rows.clone().step_by(GROUP) {
        let group = row..rows.end.min(row + GROUP);
        // SAFETY: the caller vouches for the group.
        unsafe {
            let out = out.add((row - rows.start) * head_lines * LINE);
            pack_rows(a, &all, group, column..column + width, out, LINE, GROUP * LINE, 0);
        }
    }
}

impl Pack<'_> {
    /// The unit of values that begins with `row`, for each of value_dim columns.
    /// # Safety
    /// As many columns, rounded up to 24, can be written at `out`.
    #[inline(always)]
    unsafe fn pack_unit<A: Arithmetic>(&self, a: A, row: usize, out: *mut f32) {
        let (s, lanes) = (a.simd(), A::S::LANES);
        let Attention { num_kv_heads, value_dim: width, .. } = *self.all.a;
        let stride = num_kv_heads * width;
        let rows = A::VALUES.min(self.rows.len() - row);
        let first = &self.all.value[(self.rows.start + row) * stride + self.head * width..];
        for column in (0..width).step_by(lanes) {
            let columns = lanes.min(width - column);
            if columns == lanes && rows == A::VALUES {
                // SAFETY: whole vectors of all rows of the unit exist, and fit in the place.
                unsafe { s.store_at(out.add(column), a.load_rows(first[column..].as_ptr(), stride)) };
                continue;
            }
            let mut values = [[0.0; LINE]; 2];
            for (r, values) in values[..rows].iter_mut().enumerate() {
                values[..columns].copy_from_slice(&first[r * stride + column..][..columns]);
            }
            // SAFETY: `values` holds two rows of 16.
            let units = unsafe { a.load_rows(values.as_ptr().cast(), LINE) };
            // SAFETY: the caller vouches for this many columns.
            s.store_partial(unsafe { std::slice::from_raw_parts_mut(out.add(column), columns) }, units);
        }
    }
}
