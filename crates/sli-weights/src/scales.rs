//! The scales that lie beside the codes of a matrix in 8 bits or fewer.

use std::ops::Range;

use bytes::Bytes;
use sli_core::{
    Dtype, HostTensor, LoadOp, MXFP4_GROUP, Result, Scales, TERNARY_ROWS, WeightError, WeightFormat,
    f8_e8m0_to_f32,
};

use crate::checkpoint::StoredTensor;
use crate::header::StoredDtype;
use crate::view::View;

/// How the codes of a tensor are packed, and where their scales lie.
#[derive(Clone, Debug)]
pub(crate) struct ScaleSlot {
    pub(crate) stored: StoredTensor,
    dtype: Dtype,
    /// The file's bytes that are read for it.
    pub(crate) range: Range<u64>,
    /// The scale with which that range begins.
    first: usize,
    packing: Packing,
    /// Rows and columns of the stored matrix (of each expert), in codes.
    matrix: [usize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    /// One code a value, a scale for each block of this many rows and columns.
    Blocks([usize; 2]),
    /// Two codes a byte, a scale for each 32 columns of a row. The codes of these may be a dimension of their own.
    Mxfp4 { grouped: bool },
    /// Four rows a byte, one number for the whole matrix.
    Ternary { divided: bool },
}

/// Columns of MXFP4 that share a byte of codes.
const PER_BYTE: usize = 2;

/// The ending of the name of a tensor of MXFP4 codes, [..., groups, 16 bytes], and of its scales, [..., groups].
const MXFP4_CODES: &str = "_blocks";
const MXFP4_SCALES: &str = "_scales";

/// The names that the scales of a stored tensor may have.
pub(crate) fn scales_names(stored: &StoredTensor, ops: &[LoadOp]) -> Vec<String> {
    let renamed = |from, to| stored.name.strip_suffix(from).map(|stem| format!("{stem}{to}"));
    if ops.iter().any(|op| matches!(op, LoadOp::TernaryCodes { .. })) {
        return vec![format!("{}_scale", stored.name)];
    }
    match stored.dtype {
        StoredDtype::Known(Dtype::F8E4m3) => {
            let own = renamed(".weight", ".scale");
            std::iter::once(format!("{}_scale_inv", stored.name)).chain(own).collect()
        }
        StoredDtype::Known(Dtype::I8) => renamed(".weight", ".scale").into_iter().collect(),
        StoredDtype::Known(Dtype::U8) => renamed(MXFP4_CODES, MXFP4_SCALES).into_iter().collect(),
        _ => Vec::new(),
    }
}

impl ScaleSlot {
    /// Joins codes and scales. `block` are the rows and columns of a block of 8-bit codes.
    ///
    /// # Errors
    /// [`WeightError::Shape`] when there is not one scale for each block or group, [`WeightError::Dtype`] when they or
    /// the codes are stored as something else than scales and codes are.
    pub(crate) fn new(
        codes: &StoredTensor,
        scales: StoredTensor,
        block: Option<[usize; 2]>,
        expert: Option<u32>,
        ops: &[LoadOp],
    ) -> Result<Self> {
        let name = scales.name.clone();
        let ternary = ops.iter().find_map(|op| match op {
            LoadOp::TernaryCodes { divided } => Some(Packing::Ternary { divided: *divided }),
            _ => None,
        });
        let mut shape = codes.shape.clone();
        let packing = match (ternary, codes.dtype) {
            (Some(ternary), StoredDtype::Known(Dtype::U8)) => {
                shape = vec![1];
                ternary
            }
            (Some(_), other) => {
                let name = codes.name.clone();
                return Err(WeightError::Dtype { name, dtype: other.to_string() }.into());
            }
            (None, StoredDtype::Known(Dtype::U8)) => {
                shape.pop();
                Packing::Mxfp4 { grouped: true }
            }
            (None, StoredDtype::Known(Dtype::I8)) => {
                shape.last_mut().into_iter().for_each(|size| *size = size.div_ceil(MXFP4_GROUP / PER_BYTE));
                Packing::Mxfp4 { grouped: false }
            }
            (None, _) => {
                let first = shape.len().saturating_sub(2);
                // Without blocks there is one scale for the whole matrix.
                let mut sizes = block.map_or([usize::MAX; 2], |block| block.map(|size| size.max(1)));
                for (size, block) in shape[first..].iter_mut().zip(&mut sizes) {
                    *block = (*block).min(*size);
                    *size = size.div_ceil(*block);
                }
                Packing::Blocks(sizes)
            }
        };
        let dtype = match (packing, scales.dtype) {
            (Packing::Mxfp4 { .. }, StoredDtype::Known(dtype @ (Dtype::U8 | Dtype::F8E8m0)))
            | (Packing::Blocks(_), StoredDtype::Known(dtype @ (Dtype::F32 | Dtype::Bf16 | Dtype::F8E8m0)))
            | (Packing::Ternary { .. }, StoredDtype::Known(dtype @ (Dtype::F32 | Dtype::Bf16))) => dtype,
            (_, other) => return Err(WeightError::Dtype { name, dtype: other.to_string() }.into()),
        };
        if scales.shape != shape || codes.shape.len() < 2 {
            return Err(WeightError::Shape { name, found: scales.shape, expected: shape }.into());
        }
        let codes_shape = packing.code_shape(&codes.shape);
        let matrix = [codes_shape[codes_shape.len() - 2], codes_shape[codes_shape.len() - 1]];
        let mut slot = Self { range: scales.range.clone(), stored: scales, dtype, first: 0, packing, matrix };
        if let (Some(LoadOp::SelectExpert { count }), Some(expert)) = (ops.first(), expert) {
            let of_expert = shape[1..].iter().product::<usize>();
            slot.first = (expert as usize).min(count - 1) * of_expert;
            let start = slot.range.start + (slot.first * dtype.size()) as u64;
            slot.range = start..start + (of_expert * dtype.size()) as u64;
        }
        Ok(slot)
    }

    /// The shape of the stored codes, an element a byte.
    pub(crate) fn code_shape(&self, stored: &[usize]) -> Vec<usize> {
        self.packing.code_shape(stored)
    }

    /// The shape in which the values would be stored.
    pub(crate) fn value_shape(&self, stored: &[usize]) -> Vec<usize> {
        let mut shape = self.code_shape(stored);
        match (self.packing, shape.as_mut_slice()) {
            (Packing::Mxfp4 { .. }, [.., columns]) => *columns *= PER_BYTE,
            (Packing::Ternary { .. }, [rows, ..]) => *rows *= TERNARY_ROWS,
            _ => {}
        }
        shape
    }

    /// From the shape of values to that of codes.
    pub(crate) fn values_to_codes(&self, mut values: Vec<usize>) -> Vec<usize> {
        match (self.packing, values.as_mut_slice()) {
            (Packing::Mxfp4 { .. }, [.., columns]) => *columns /= PER_BYTE,
            (Packing::Ternary { .. }, [rows, ..]) => *rows /= TERNARY_ROWS,
            _ => {}
        }
        values
    }

    /// What codes and scales together are.
    pub(crate) fn format(&self) -> WeightFormat {
        match self.packing {
            Packing::Blocks(_) => WeightFormat::Fp8Blocks,
            Packing::Mxfp4 { .. } => WeightFormat::Mxfp4,
            Packing::Ternary { .. } => WeightFormat::Ternary,
        }
    }

    /// Bytes of the scales once they are loaded for a view of so many rows and columns of codes.
    pub(crate) fn bytes(&self, rows: usize, columns: usize) -> usize {
        match self.packing {
            Packing::Blocks([_, block]) => rows * columns.div_ceil(block) * size_of::<f32>(),
            Packing::Mxfp4 { .. } => rows * columns.div_ceil(MXFP4_GROUP / PER_BYTE),
            Packing::Ternary { .. } => 0,
        }
    }

    /// How many columns of a view share a scale.
    ///
    /// # Errors
    /// Says in words why they share none.
    pub(crate) fn run(&self, view: &View) -> Result<usize, String> {
        let columns = view.axis(1);
        let step = columns.windows(2).map(|pair| pair[1] - pair[0]).next().unwrap_or(1);
        let turned = step != 1;
        let run = match (self.packing, turned) {
            (Packing::Blocks([rows, columns]), _) => {
                if turned {
                    rows
                } else {
                    columns
                }
            }
            (Packing::Mxfp4 { .. }, false) => MXFP4_GROUP / PER_BYTE,
            (Packing::Mxfp4 { .. }, true) => return Err("a matrix of 4-bit floats cannot be turned".into()),
            (Packing::Ternary { .. }, _) if view.axis(0).len() == self.matrix[0] && view.is_in_order() => {
                columns.len()
            }
            (Packing::Ternary { .. }, _) => return Err("rows of ternary weights share bytes".into()),
        };
        let [height, width] = self.matrix;
        let first = if turned { columns[0] / width % height } else { columns[0] % width };
        let in_order = columns.windows(2).all(|pair| pair[0] + step == pair[1]);
        if in_order && first.is_multiple_of(run) {
            Ok(run)
        } else {
            Err("its columns do not share scales".into())
        }
    }

    /// The scales of a matrix that is as it is stored.
    pub(crate) fn as_stored(&self, read: &[u8]) -> Scales {
        let [height, width] = self.matrix;
        match self.packing {
            Packing::Blocks([rows, columns]) => {
                let shape = vec![height.div_ceil(rows), width.div_ceil(columns)];
                Scales::Blocks {
                    values: HostTensor::from_vec(widened(self.dtype, read), shape),
                    rows,
                    columns,
                }
            }
            Packing::Mxfp4 { .. } => exponents(read.to_vec(), height),
            Packing::Ternary { divided } => {
                let scale = widened(self.dtype, read).first().copied().unwrap_or(1.0);
                Scales::Ternary {
                    rows: height * TERNARY_ROWS,
                    scale: if divided { 1.0 / scale } else { scale },
                }
            }
        }
    }

    /// The scales of a view of the matrix: a row of them for each of its rows.
    pub(crate) fn of_view(&self, read: &[u8], view: &View) -> Scales {
        let run = self.run(view).expect("checked when the slot was made");
        let rows = view.axis(0).len();
        match self.packing {
            Packing::Blocks(block) => {
                let values = self.picked(&widened(self.dtype, read), view, block, run);
                let shape = vec![rows, values.len() / rows];
                Scales::Blocks { values: HostTensor::from_vec(values, shape), rows: 1, columns: run }
            }
            Packing::Mxfp4 { .. } => exponents(self.picked(read, view, [1, run], run), rows),
            // Only whole matrices have a run.
            Packing::Ternary { .. } => self.as_stored(read),
        }
    }

    /// The scale of each row of a view and each `run` of its columns.
    fn picked<T: Copy>(&self, scales: &[T], view: &View, [rows, columns]: [usize; 2], run: usize) -> Vec<T> {
        let [height, width] = self.matrix;
        let (lines, pitch) = (height.div_ceil(rows), width.div_ceil(columns));
        let groups: Vec<usize> = view.axis(1).iter().copied().step_by(run).collect();
        let place = |offset: usize| {
            let (row, column) = (offset / width, offset % width);
            let line = row / height * lines + row % height / rows;
            line * pitch + column / columns - self.first
        };
        let of_row =
            |row: &usize| groups.iter().map(|column| scales[place(row + column)]).collect::<Vec<_>>();
        view.axis(0).iter().flat_map(of_row).collect()
    }
}

impl Packing {
    fn code_shape(self, stored: &[usize]) -> Vec<usize> {
        match (self, stored) {
            (Self::Mxfp4 { grouped: true }, [outer @ .., groups, bytes]) => {
                [outer, &[groups * bytes]].concat()
            }
            _ => stored.to_vec(),
        }
    }
}

fn exponents(bytes: Vec<u8>, rows: usize) -> Scales {
    let shape = vec![rows, bytes.len() / rows.max(1)];
    Scales::Mxfp4 { exponents: HostTensor::new(Dtype::U8, shape, Bytes::from(bytes)) }
}

/// Scales as they are stored, at any address, in f32.
fn widened(dtype: Dtype, read: &[u8]) -> Vec<f32> {
    match dtype {
        // bf16 is the upper half of an f32.
        Dtype::Bf16 => {
            let wide = |v: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*v)) << 16);
            read.as_chunks().0.iter().map(wide).collect()
        }
        Dtype::F8E8m0 => read.iter().map(|code| f8_e8m0_to_f32(*code)).collect(),
        _ => read.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect(),
    }
}
