//! Keys and values of all samples in units.

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

/// Packed keys and values. For each sample and head of keys:
/// * keys as groups of 24 rows, `[group][line of head_dim][24][16]`;
/// * values with units along keys, `[unit][value_dim rounded up to 24]`, zero-padded to whole lines of units.
pub(super) struct Operands {
    /// Units of a line of keys, per group.
    pub(super) head_lines: usize,
    /// Distance between units of values.
    pub(super) value_stride: usize,
    /// Where the keys and the values of each sample's first head begin, and the distance to the next head.
    samples: Vec<Sample>,
    keys: Buffer,
    values: Buffer,
}

#[derive(Clone, Copy)]
struct Sample {
    first_row: usize,
    rows: usize,
    keys: usize,
    key_stride: usize,
    values: usize,
    value_stride: usize,
}

impl Operands {
    pub(super) fn pack(
        a: &Attention,
        isa: Isa,
        precision: Precision,
        geometry: Geometry,
        key: &[f32],
        value: &[f32],
        key_offsets: &[usize],
    ) -> Self {
        let (head_lines, value_stride) = (geometry.lines(a.head_dim), a.value_dim.next_multiple_of(GROUP));
        let heads = a.num_kv_heads;
        let (mut key_length, mut value_length) = (0, 0);
        let mut samples = Vec::with_capacity(key_offsets.len() - 1);
        for offsets in key_offsets.windows(2) {
            let rows = offsets[1] - offsets[0];
            let sample = Sample {
                first_row: offsets[0],
                rows,
                keys: key_length,
                key_stride: rows.next_multiple_of(GROUP) * head_lines * LINE,
                values: value_length,
                value_stride: geometry.lines(rows) * LINE * value_stride,
            };
            key_length += heads * sample.key_stride;
            value_length += heads * sample.value_stride;
            samples.push(sample);
        }
        let (mut keys, mut values) = (Buffer::zeros(key_length), Buffer::zeros(value_length));
        let (shared_keys, shared_values) =
            (SharedMut::new(keys.as_mut_slice()), SharedMut::new(values.as_mut_slice()));
        (0..samples.len() * heads).into_par_iter().for_each(|task| {
            let (sample, head) = (samples[task / heads], task % heads);
            let pack =
                Pack { a, key, value, sample, head, head_lines, keys: shared_keys, values: shared_values };
            dispatch_product(isa, precision, pack);
        });
        Self { head_lines, value_stride, samples, keys, values }
    }

    /// The packed keys of a sample and one of its heads of keys.
    pub(super) fn keys(&self, sample: usize, head: usize) -> &[f32] {
        let Sample { keys, key_stride, .. } = self.samples[sample];
        &self.keys.as_slice()[keys + head * key_stride..][..key_stride]
    }

    /// The packed values of a sample and one of its heads of keys.
    pub(super) fn values(&self, sample: usize, head: usize) -> &[f32] {
        let Sample { values, value_stride, .. } = self.samples[sample];
        &self.values.as_slice()[values + head * value_stride..][..value_stride]
    }
}

/// Packs one head of one sample.
struct Pack<'a> {
    a: &'a Attention<'a>,
    key: &'a [f32],
    value: &'a [f32],
    sample: Sample,
    head: usize,
    head_lines: usize,
    keys: SharedMut,
    values: SharedMut,
}

impl ProductKernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self, a: A) {
        let Sample { first_row, rows, .. } = self.sample;
        let (width, all) = (self.a.head_dim, self.a.num_kv_heads * self.a.head_dim);
        let keys = self.sample.keys + self.head * self.sample.key_stride;
        let own = first_row..first_row + rows;
        // SAFETY: the place belongs to this sample and head alone, and has the lines of all its groups.
        unsafe {
            let out = self.keys.at(keys);
            pack_groups(a, self.key, all, own, self.head * width, width, self.head_lines, out);
        }
        let stride = self.a.value_dim.next_multiple_of(GROUP);
        let mut at = self.sample.values + self.head * self.sample.value_stride;
        for row in (0..rows).step_by(A::VALUES) {
            // SAFETY: units of this sample and head alone, as many as there are rows, each `stride` long.
            unsafe { self.pack_unit(a, row, self.values.at(at)) };
            at += stride;
        }
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
        let (width, stride) = (self.a.value_dim, self.a.num_kv_heads * self.a.value_dim);
        let rows = A::VALUES.min(self.sample.rows - row);
        let first = &self.value[(self.sample.first_row + row) * stride + self.head * width..];
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
