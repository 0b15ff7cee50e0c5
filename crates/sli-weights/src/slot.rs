//! One tensor that a model needs: where it lies, and how it becomes what the code expects.

use std::ops::Range;

use bytes::Bytes;
use sli_core::{
    Dtype, HostTensor, LoadOp, Place, Residency, Result, SliError, TensorNeed, WeightError, WeightSource,
};

use crate::checkpoint::StoredTensor;
use crate::header::StoredDtype;
use crate::memory::Memory;
use crate::read_plan::FileRange;
use crate::view::View;

/// A needed tensor, found in the checkpoint and checked against it.
#[derive(Clone, Debug)]
pub struct Slot {
    /// What is needed, in which shape.
    pub need: TensorNeed,
    /// Where it is stored, whole.
    pub stored: StoredTensor,
    /// Steps from the stored tensor to the needed one, first to last.
    pub ops: Vec<LoadOp>,
    /// How long it stays in memory.
    pub residency: Residency,
    /// The file's bytes that are read for it: all of the stored tensor, or the part that the steps leave.
    pub range: Range<u64>,
    /// How the elements are stored.
    pub(crate) stored_dtype: Dtype,
    /// Shape of the tensor of which `need` may be some rows only.
    whole: Vec<usize>,
    /// Those rows.
    rows: Range<usize>,
}

impl Slot {
    /// Joins a need and a stored tensor.
    ///
    /// # Errors
    /// [`WeightError::Shape`] when the stored shape is not the one that becomes the needed one,
    /// [`WeightError::Dtype`] when the elements are not floats, [`SliError::Usage`] when the steps make no sense for
    /// the shape; all before anything is read.
    pub(crate) fn new(
        place: Place,
        need: TensorNeed,
        stored: StoredTensor,
        source: &WeightSource,
    ) -> Result<Self> {
        let name = stored.name.clone();
        let stored_dtype = match stored.dtype {
            StoredDtype::Known(dtype) if dtype.is_float() => dtype,
            other => return Err(WeightError::Dtype { name, dtype: other.to_string() }.into()),
        };
        let expected = source.stored_shape(&need.shape);
        if stored.shape != expected || need.shape.contains(&0) {
            return Err(WeightError::Shape { name, found: stored.shape, expected }.into());
        }
        let (ops, residency, range) = (source.ops.clone(), source.residency, stored.range.clone());
        let (whole, rows) = (need.shape.clone(), 0..need.shape[0]);
        let mut slot = Self { need, stored, ops, residency, range, stored_dtype, whole, rows };
        let senseless = |why| {
            let key = slot.need.key;
            SliError::Usage(format!("config.json does not fit tensor '{name}' ({place}, {key}): {why}"))
        };
        slot.range = slot.needed_range().map_err(senseless)?;
        Ok(slot)
    }

    /// The dtype of the tensor once it is loaded: as stored, but for f64 (rounded) and norms whose weight is stored
    /// as an offset from one (exact); both become f32.
    pub fn dtype(&self) -> Dtype {
        if self.is_converted() { Dtype::F32 } else { self.stored_dtype }
    }

    /// Bytes of the tensor once it is loaded.
    pub fn bytes(&self) -> usize {
        self.need.shape.iter().product::<usize>() * self.dtype().size()
    }

    /// The slot of some rows of the tensor only.
    ///
    /// # Errors
    /// [`SliError::Usage`] when the tensor has fewer rows, or none are meant.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        let count = self.rows.len();
        if rows.is_empty() || rows.end > count {
            let name = &self.stored.name;
            return Err(SliError::Usage(format!("rows {rows:?} of tensor '{name}', which has {count} rows")));
        }
        let mut slot = self.clone();
        slot.need.shape[0] = rows.len();
        slot.rows = self.rows.start + rows.start..self.rows.start + rows.end;
        slot.residency = Residency::PerLayer; // only whole tensors are kept
        slot.range = slot.needed_range().map_err(SliError::Usage)?;
        Ok(slot)
    }

    /// Which bytes are read for it.
    pub(crate) fn file_range(&self) -> FileRange {
        (self.stored.file, self.range.clone())
    }

    /// Do both become the same tensor?
    pub(crate) fn loads_the_same_as(&self, other: &Self) -> bool {
        let same_source = self.stored.name == other.stored.name && self.ops == other.ops;
        same_source && self.range == other.range && self.rows == other.rows
    }

    /// Bytes that [`Slot::finish`] takes from memory besides those that are read.
    pub(crate) fn copied_bytes(&self) -> Vec<usize> {
        let elements = self.need.shape.iter().product::<usize>();
        let mut copies = Vec::new();
        if !self.is_in_order() || !self.range.start.is_multiple_of(self.stored_dtype.size() as u64) {
            copies.push(elements * self.stored_dtype.size());
        }
        if self.is_converted() {
            copies.push(elements * size_of::<f32>());
        }
        copies
    }

    /// The needed tensor, from the bytes of [`Slot::range`], which have the alignment that they have in the file.
    /// Shares them where they are in order.
    pub(crate) fn finish(&self, read: Bytes, memory: &mut Memory) -> HostTensor {
        let shape = self.need.shape.clone();
        let aligned = (read.as_ptr() as usize).is_multiple_of(self.stored_dtype.size());
        let ordered = if aligned && self.is_in_order() {
            read
        } else {
            let bytes = shape.iter().product::<usize>() * self.stored_dtype.size();
            let mut out = memory.buffer(bytes);
            let view = self.view().expect("checked when the slot was made");
            view.gather(self.stored_dtype.size(), &read, &mut out[..bytes]);
            out.into_bytes().slice(..bytes)
        };
        self.converted(HostTensor::new(self.stored_dtype, shape, ordered), memory)
    }

    /// Where each row starts, in bytes from the start of [`Slot::range`]. `None` when rows do not lie in one piece.
    pub(crate) fn row_starts(&self) -> Option<Vec<usize>> {
        let starts = self.view().ok()?.row_starts()?;
        Some(starts.into_iter().map(|start| start * self.stored_dtype.size()).collect())
    }

    /// A tensor of whole rows, stored like this slot, with the values that are needed.
    pub(crate) fn converted(&self, rows: HostTensor, memory: &mut Memory) -> HostTensor {
        if !self.is_converted() {
            return rows;
        }
        let offset = if self.adds_one() { 1.0 } else { 0.0 };
        let bytes = rows.len() * size_of::<f32>();
        let mut out = memory.buffer(bytes);
        let values = bytemuck::cast_slice_mut::<u8, f32>(&mut out[..bytes]);
        for (out, value) in values.iter_mut().zip(&*rows.to_f32()) {
            *out = value + offset;
        }
        HostTensor::new(Dtype::F32, rows.shape().to_vec(), out.into_bytes().slice(..bytes))
    }

    /// Does a loaded tensor have other values than the stored one?
    fn is_converted(&self) -> bool {
        self.stored_dtype == Dtype::F64 || self.adds_one()
    }

    fn adds_one(&self) -> bool {
        self.ops.contains(&LoadOp::AddOne)
    }

    fn is_in_order(&self) -> bool {
        self.ops.is_empty() || self.view().is_ok_and(|view| view.is_in_order())
    }

    fn needed_range(&self) -> Result<Range<u64>, String> {
        if self.ops.is_empty() && self.rows.len() == self.whole[0] {
            return Ok(self.stored.range.clone());
        }
        let (span, size) = (self.view()?.span(), self.stored_dtype.size());
        let start = self.stored.range.start;
        Ok(start + (span.start * size) as u64..start + (span.end * size) as u64)
    }

    /// Which elements of the stored tensor are meant.
    fn view(&self) -> Result<View, String> {
        // How many rows a step leaves follows from the steps after it.
        let mut rows_after = Vec::with_capacity(self.ops.len());
        self.ops.iter().rev().fold(self.whole.clone(), |shape, op| {
            rows_after.push(shape[0]);
            op.stored_shape(shape)
        });
        let mut view = View::whole(&self.stored.shape);
        for (op, rows) in self.ops.iter().zip(rows_after.into_iter().rev()) {
            view = view.after(*op, rows, self.need.key.role.index())?;
        }
        Ok(if self.rows.len() == self.whole[0] { view } else { view.rows(self.rows.clone()) })
    }
}
