//! The scales of matrices that are stored in 8 or 4 bits.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::tensor::{Dtype, HostTensor, f8_e4m3_to_f32, f8_e8m0_to_f32};

/// Columns that share a scale in MXFP4 (OCP Microscaling Formats, version 1.0).
pub const MXFP4_GROUP: usize = 32;

/// Rows of a matrix of ternary weights that share their bytes.
pub const TERNARY_ROWS: usize = 4;

/// What the stored elements of a matrix are multiplied by.
#[derive(Clone, Debug)]
pub enum Scales {
    /// A number for each block: `values[row / rows][column / columns]`, f32.
    Blocks {
        /// [ceil(rows of the matrix / rows), ceil(columns of the matrix / columns)].
        values: HostTensor,
        /// Rows of a block.
        rows: usize,
        /// Columns of a block.
        columns: usize,
    },
    /// MXFP4: an element is a byte of two 4-bit floats e2m1, the even column in the low half; 32 columns of a row share
    /// the power of two `2^(exponent - 127)`.
    Mxfp4 {
        /// [rows, ceil(columns / 32)], u8.
        exponents: HostTensor,
    },
    /// -1, 0 and 1 (BitNet b1.58) in 2 bits, as 0, 1 and 2. Four rows share their bytes: of `lines` rows of bytes, row `r`
    /// is in the bits from `2 * (r / lines)` on of number `r % lines`.
    Ternary {
        /// Rows of the matrix.
        rows: usize,
        /// The number for the whole matrix.
        scale: f32,
    },
}

/// The values of the 4-bit floats e2m1, by their code.
const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

impl Scales {
    /// Rows and columns of a matrix with this many rows and columns of elements.
    pub fn matrix_shape(&self, [lines, elements]: [usize; 2]) -> [usize; 2] {
        match self {
            Self::Blocks { .. } => [lines, elements],
            Self::Mxfp4 { .. } => [lines, 2 * elements],
            Self::Ternary { rows, .. } => [*rows, elements],
        }
    }

    /// The values of a matrix of these elements: for the plain backends, which have no kernels for them.
    pub(crate) fn widened<'a>(&self, codes: &HostTensor) -> Cow<'a, [f32]> {
        if let Self::Ternary { rows, scale } = self {
            return widened_ternary(codes, *rows, *scale).into();
        }
        let width = codes.shape()[1];
        let mut out = Vec::with_capacity(codes.matrix_shape().iter().product());
        for (row, codes) in codes.bytes().chunks_exact(width.max(1)).enumerate() {
            match self {
                Self::Blocks { values, rows, columns } => {
                    let scales = &values.elements::<f32>()[row / rows * width.div_ceil(*columns)..];
                    let value =
                        |(column, code): (usize, &u8)| f8_e4m3_to_f32(*code) * scales[column / columns];
                    out.extend(codes.iter().enumerate().map(value));
                }
                Self::Mxfp4 { exponents } => {
                    let scales = &exponents.bytes()[row * exponents.shape()[1]..];
                    for (i, code) in codes.iter().enumerate() {
                        let scale = f8_e8m0_to_f32(scales[2 * i / MXFP4_GROUP]);
                        out.extend([code & 15, code >> 4].map(|code| E2M1[usize::from(code)] * scale));
                    }
                }
                Self::Ternary { .. } => unreachable!("its rows share bytes"),
            }
        }
        out.into()
    }
}

fn widened_ternary(codes: &HostTensor, rows: usize, scale: f32) -> Vec<f32> {
    let lines = codes.bytes().chunks_exact(codes.shape()[1].max(1));
    let row_bits = (0..u8::BITS).step_by(2).flat_map(|bit| lines.clone().map(move |line| (bit, line)));
    let value = |bit, byte: u8| (f32::from(byte >> bit & 3) - 1.0) * scale;
    row_bits.take(rows).flat_map(|(bit, line)| line.iter().map(move |byte| value(bit, *byte))).collect()
}

/// How weights are stored, for people and for choosing an arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// Element by element.
    Plain(Dtype),
    /// 8-bit floats with a scale for each block.
    Fp8Blocks,
    /// 4-bit floats with a power of two for each 32.
    Mxfp4,
    /// -1, 0 and 1 with a scale for the whole matrix.
    Ternary,
}

impl WeightFormat {
    /// Bits of a weight without its share of a scale.
    pub fn bits(self) -> u64 {
        match self {
            Self::Plain(dtype) => 8 * dtype.size() as u64,
            Self::Fp8Blocks => 8,
            Self::Mxfp4 => 4,
            Self::Ternary => 2,
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(dtype) => dtype.fmt(f),
            Self::Fp8Blocks => f.write_str("f8_e4m3 with block scales"),
            Self::Mxfp4 => f.write_str("mxfp4"),
            Self::Ternary => f.write_str("ternary"),
        }
    }
}

impl Serialize for WeightFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn bytes(shape: &[usize], dtype: Dtype, values: &[u8]) -> HostTensor {
        HostTensor::new(dtype, shape.to_vec(), Bytes::copy_from_slice(values))
    }

    #[test]
    fn blocks_scale_their_rows_and_columns() {
        // 0x38 is one, 0x40 two.
        let codes = bytes(&[3, 3], Dtype::F8E4m3, &[0x38, 0x40, 0x38, 0x38, 0x38, 0x38, 0x40, 0x40, 0xb8]);
        let values = HostTensor::from_f32(&[1.0, 10.0, 3.0, 5.0], &[2, 2]);
        let matrix = codes.with_scales(Scales::Blocks { values, rows: 2, columns: 2 });
        assert_eq!(*matrix.to_f32(), [1.0, 2.0, 10.0, 1.0, 1.0, 10.0, 6.0, 6.0, -5.0]);
        assert_eq!(matrix.matrix_shape(), [3, 3]);
    }

    #[test]
    fn a_byte_holds_four_rows_of_ternary_values() {
        // Five rows in two lines: 0, 2 and 4 in the first.
        let codes = bytes(&[2, 2], Dtype::U8, &[0b00_1000, 0b01_0110, 0b0100, 0b1001]);
        let matrix = codes.with_scales(Scales::Ternary { rows: 5, scale: 0.5 });
        assert_eq!(matrix.matrix_shape(), [5, 2]);
        assert_eq!(*matrix.to_f32(), [-0.5, 0.5, -0.5, 0.0, 0.5, 0.0, 0.0, 0.5, -0.5, 0.0]);
    }

    #[test]
    fn a_byte_holds_two_values_of_mxfp4() {
        let mut codes = [0u8; 32];
        (codes[0], codes[16]) = (0x7a, 0x01);
        let exponents = bytes(&[1, 2], Dtype::U8, &[127, 128]);
        let matrix = bytes(&[1, 32], Dtype::U8, &codes).with_scales(Scales::Mxfp4 { exponents });
        assert_eq!(matrix.matrix_shape(), [1, 64]);
        let values = matrix.to_f32();
        assert_eq!((values[0], values[1], values[32], values[33]), (-1.0, 6.0, 1.0, 0.0));
        assert_eq!(values.len(), 64);
    }
}
