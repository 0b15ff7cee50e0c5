//! One tensor that a model needs: where it lies, and how it becomes what the code expects.

use std::ops::Range;

use bytes::Bytes;
use sli_core::{
    Dtype, HostTensor, LoadOp, Place, Residency, Result, SliError, TensorNeed, WeightError, WeightFormat,
    WeightSource,
};

use crate::checkpoint::StoredTensor;
use crate::header::StoredDtype;
use crate::memory::Memory;
use crate::read_plan::FileRange;
use crate::scales::ScaleSlot;
use crate::ternary;
use crate::view::View;

/// A needed tensor, found in the checkpoint and checked against it.
#[derive(Clone, Debug)]
pub struct Slot {
    /// What is needed, in which shape.
    pub need: TensorNeed,
    /// Where it is stored, whole; of several tensors that are joined, the first, with the shape of all.
    pub stored: StoredTensor,
    /// The others of these.
    rest: Vec<StoredTensor>,
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
    /// What the elements are multiplied by, where they are codes of 8 or 4 bits.
    scales: Option<Box<ScaleSlot>>,
}

impl Slot {
    /// Joins a need and a stored tensor.
    ///
    /// # Errors
    /// [`WeightError::Shape`] when the stored shape is not the one that becomes the needed one,
    /// [`WeightError::Dtype`] when the elements are not floats (or integers, where the role holds such), [`SliError::Usage`] when the steps make no sense for
    /// the shape; all before anything is read.
    pub(crate) fn new(
        place: Place,
        need: TensorNeed,
        mut stored: StoredTensor,
        rest: Vec<StoredTensor>,
        source: &WeightSource,
        scales: Option<ScaleSlot>,
    ) -> Result<Self> {
        join_shapes(&mut stored, &rest)?;
        let name = stored.name.clone();
        let stored_dtype = match stored.dtype {
            StoredDtype::Known(dtype) if dtype.is_float() || scales.is_some() => dtype,
            StoredDtype::Known(dtype @ (Dtype::I64 | Dtype::I32)) if need.key.role.holds_integers() => dtype,
            other => return Err(WeightError::Dtype { name, dtype: other.to_string() }.into()),
        };
        let expected = source.stored_shape(&need.shape);
        let values = scales.as_ref().map_or(stored.shape.clone(), |scales| scales.value_shape(&stored.shape));
        if values != expected || need.shape.contains(&0) {
            return Err(WeightError::Shape { name, found: values, expected }.into());
        }
        let (ops, residency, range) = (source.ops.clone(), source.residency, stored.range.clone());
        let (whole, rows) = (need.shape.clone(), 0..num_rows(&need.shape));
        let scales = scales.map(Box::new);
        let mut slot = Self { need, stored, rest, ops, residency, range, stored_dtype, whole, rows, scales };
        let senseless = |why| {
            let key = slot.need.key;
            SliError::Usage(format!("config.json does not fit tensor '{name}' ({place}, {key}): {why}"))
        };
        slot.range = slot.needed_range().map_err(senseless)?;
        if let Some(scales) = slot.scales.as_ref().filter(|_| !slot.is_as_stored()) {
            slot.view().and_then(|view| scales.run(&view)).map_err(senseless)?;
        }
        Ok(slot)
    }

    /// The dtype of the tensor once it is loaded: as stored, but for f64 (rounded) and norms whose weight is stored
    /// as an offset from one (exact), which become f32, and for what is rounded to codes.
    pub fn dtype(&self) -> Dtype {
        match self.conversion() {
            Conversion::None => self.stored_dtype,
            Conversion::Widened | Conversion::PlusOne => Dtype::F32,
            Conversion::Ternary => Dtype::U8,
        }
    }

    /// Bytes of the tensor once it is loaded.
    pub fn bytes(&self) -> usize {
        let shape = match self.conversion() {
            Conversion::Ternary => ternary::code_shape(&self.need.shape),
            _ => self.code_shape(),
        };
        shape.iter().product::<usize>() * self.dtype().size()
    }

    /// How the weights are held once they are loaded.
    pub fn format(&self) -> WeightFormat {
        match (&self.scales, self.conversion()) {
            (Some(scales), _) => scales.format(),
            (None, Conversion::Ternary) => WeightFormat::Ternary,
            (None, _) => WeightFormat::Plain(self.dtype()),
        }
    }

    /// Weights in the stored tensor, whole.
    pub fn stored_weights(&self) -> usize {
        let scales = self.scales.as_ref();
        let shape = scales.map_or(self.stored.shape.clone(), |scales| scales.value_shape(&self.stored.shape));
        shape.iter().product()
    }

    /// The name of the stored tensor; of several that are joined, those of all.
    pub fn stored_names(&self) -> impl Iterator<Item = &str> {
        let rest = self.rest.iter().map(|stored| stored.name.as_str());
        std::iter::once(self.stored.name.as_str()).chain(rest)
    }

    /// The names of the stored tensors that it needs.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let scales = self.scales.as_ref().map(|scales| scales.stored.name.as_str());
        self.stored_names().chain(scales)
    }

    /// The slot of some rows of the tensor only.
    ///
    /// # Errors
    /// [`SliError::Usage`] when the tensor has fewer rows, none are meant, or only all of them together can be loaded.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self> {
        if self.format() == WeightFormat::Ternary {
            let name = &self.stored.name;
            return Err(SliError::Usage(format!("rows of tensor '{name}', which is loaded as a whole")));
        }
        let count = self.rows.len();
        if rows.is_empty() || rows.end > count {
            let name = &self.stored.name;
            return Err(SliError::Usage(format!("rows {rows:?} of tensor '{name}', which has {count} rows")));
        }
        let mut slot = self.clone();
        if let Some(first) = slot.need.shape.first_mut() {
            *first = rows.len();
        }
        slot.rows = self.rows.start + rows.start..self.rows.start + rows.end;
        slot.residency = Residency::PerLayer; // only whole tensors are kept
        slot.range = slot.needed_range().map_err(SliError::Usage)?;
        Ok(slot)
    }

    /// Which bytes are read for it: those of the elements, of each tensor that is joined, and those of their scales.
    pub(crate) fn file_ranges(&self) -> impl Iterator<Item = FileRange> {
        let scales = self.scales.as_ref().map(|scales| (scales.stored.file, scales.range.clone()));
        let rest = self.rest.iter().map(|stored| (stored.file, stored.range.clone()));
        std::iter::once((self.stored.file, self.range.clone())).chain(rest).chain(scales)
    }

    /// Do both become the same tensor?
    pub(crate) fn loads_the_same_as(&self, other: &Self) -> bool {
        let same_source = self.stored.name == other.stored.name && self.ops == other.ops;
        same_source && self.range == other.range && self.rows == other.rows
    }

    /// Bytes that [`Slot::finish`] takes from memory besides those that are read.
    pub(crate) fn copied_bytes(&self) -> Vec<usize> {
        let shape = self.code_shape();
        let elements = shape.iter().product::<usize>();
        let mut copies = Vec::new();
        if !self.rest.is_empty() {
            copies.push(self.stored.shape.iter().product::<usize>() * self.stored_dtype.size());
        }
        if !self.is_in_order() || !self.range.start.is_multiple_of(self.stored_dtype.size() as u64) {
            copies.push(elements * self.stored_dtype.size());
        }
        if self.conversion() != Conversion::None {
            copies.push(self.bytes());
        }
        if let (Some(scales), [rows, columns]) = (&self.scales, shape.as_slice()) {
            copies.push(scales.bytes(*rows, *columns));
        }
        copies
    }

    /// The needed tensor, from the bytes of [`Slot::file_ranges`], the first of which have the alignment that they
    /// have in the file. Shares these where they are in order.
    pub(crate) fn finish(&self, mut read: impl Iterator<Item = Bytes>, memory: &mut Memory) -> HostTensor {
        let codes = match self.rest.len() {
            0 => read.next().unwrap_or_default(),
            more => self.joined(read.by_ref().take(1 + more), memory),
        };
        let scales = read.next();
        let shape = self.code_shape();
        let aligned = (codes.as_ptr() as usize).is_multiple_of(self.stored_dtype.size());
        let view = || self.view().expect("checked when the slot was made");
        let ordered = if aligned && self.is_in_order() {
            codes
        } else {
            let bytes = shape.iter().product::<usize>() * self.stored_dtype.size();
            let mut out = memory.buffer(bytes);
            view().gather(self.stored_dtype.size(), &codes, &mut out[..bytes]);
            out.into_bytes().slice(..bytes)
        };
        let tensor = HostTensor::new(self.stored_dtype, shape, ordered);
        match self.scales.as_ref().zip(scales) {
            Some((slot, read)) if self.is_as_stored() => tensor.with_scales(slot.as_stored(&read)),
            Some((slot, read)) => tensor.with_scales(slot.of_view(&read, &view())),
            None => self.converted(tensor, memory),
        }
    }

    /// The span that is needed of several stored tensors, one after the other.
    fn joined(&self, parts: impl Iterator<Item = Bytes>, memory: &mut Memory) -> Bytes {
        let size = self.stored_dtype.size();
        let mut out = memory.buffer(self.stored.shape.iter().product::<usize>() * size);
        let mut end = 0;
        for part in parts {
            out[end..end + part.len()].copy_from_slice(&part);
            end += part.len();
        }
        let span = self.view().expect("checked when the slot was made").span();
        out.into_bytes().slice(span.start * size..span.end * size)
    }

    /// Where each row starts, in bytes from the start of [`Slot::range`]. `None` when rows do not lie in one piece, or
    /// not with all that they need.
    pub(crate) fn row_starts(&self) -> Option<Vec<usize>> {
        if self.scales.is_some() || !self.rest.is_empty() || self.conversion() == Conversion::Ternary {
            return None;
        }
        let starts = self.view().ok()?.row_starts()?;
        Some(starts.into_iter().map(|start| start * self.stored_dtype.size()).collect())
    }

    /// A tensor of whole rows, stored like this slot, with the values that are needed.
    pub(crate) fn converted(&self, rows: HostTensor, memory: &mut Memory) -> HostTensor {
        let offset = match self.conversion() {
            Conversion::None => return rows,
            Conversion::Ternary => return ternary::rounded(&rows, memory),
            Conversion::Widened => 0.0,
            Conversion::PlusOne => 1.0,
        };
        let bytes = rows.len() * size_of::<f32>();
        let mut out = memory.buffer(bytes);
        let values = bytemuck::cast_slice_mut::<u8, f32>(&mut out[..bytes]);
        for (out, value) in values.iter_mut().zip(&*rows.to_f32()) {
            *out = value + offset;
        }
        HostTensor::new(Dtype::F32, rows.shape().to_vec(), out.into_bytes().slice(..bytes))
    }

    /// What becomes of the stored values.
    fn conversion(&self) -> Conversion {
        if self.ops.contains(&LoadOp::Ternary) {
            Conversion::Ternary
        } else if self.ops.contains(&LoadOp::AddOne) {
            Conversion::PlusOne
        } else if self.stored_dtype == Dtype::F64 {
            Conversion::Widened
        } else {
            Conversion::None
        }
    }

    /// The shape of the elements as they are stored: the needed one, but that a byte may hold several values.
    fn code_shape(&self) -> Vec<usize> {
        let shape = self.need.shape.clone();
        self.scales.as_ref().map_or(shape.clone(), |scales| scales.values_to_codes(shape))
    }

    /// Is all of the stored tensor needed, and nothing done to it?
    fn is_as_stored(&self) -> bool {
        self.ops.is_empty() && self.rest.is_empty() && self.rows.len() == num_rows(&self.whole)
    }

    fn is_in_order(&self) -> bool {
        self.ops.is_empty() || self.view().is_ok_and(|view| view.is_in_order())
    }

    fn needed_range(&self) -> Result<Range<u64>, String> {
        if self.is_as_stored() {
            return Ok(self.stored.range.clone());
        }
        let (span, size) = (self.view()?.span(), self.stored_dtype.size());
        if !self.rest.is_empty() {
            return Ok(self.stored.range.clone()); // the span is one of all tensors together
        }
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
        let stored = &self.stored.shape;
        let mut view = match &self.scales {
            Some(scales) => View::whole(&scales.code_shape(stored)),
            None => View::whole(stored),
        };
        for (op, rows) in self.ops.iter().zip(rows_after.into_iter().rev()) {
            view = view.after(*op, rows, self.need.key.role.index())?;
        }
        Ok(if self.rows.len() == num_rows(&self.whole) { view } else { view.rows(self.rows.clone()) })
    }
}

/// What a loaded tensor has other values by than the stored one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conversion {
    None,
    /// To f32.
    Widened,
    /// To f32 and plus one.
    PlusOne,
    /// To -1, 0 and 1 times one number.
    Ternary,
}

/// Gives the first of several tensors the shape of all, row after row.
fn join_shapes(first: &mut StoredTensor, rest: &[StoredTensor]) -> Result<()> {
    for other in rest {
        let name = other.name.clone();
        if other.dtype != first.dtype {
            return Err(WeightError::Dtype { name, dtype: other.dtype.to_string() }.into());
        }
        let fits = other.shape.get(1..) == first.shape.get(1..) && !other.shape.is_empty();
        if !fits {
            let (found, expected) = (other.shape.clone(), first.shape.clone());
            return Err(WeightError::Shape { name, found, expected }.into());
        }
        first.shape[0] += other.shape[0];
    }
    Ok(())
}

/// The first dimension. A number without dimensions is one row.
fn num_rows(shape: &[usize]) -> usize {
    shape.first().copied().unwrap_or(1)
}
