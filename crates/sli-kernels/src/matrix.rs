//! Weight matrices as they are stored, and the check that their parts fit together.

use std::fmt;

use half::{bf16, f16};

use crate::formats::{
    Always, Fp8Rows, Int4, Int8Rows, Mxfp4, NibbleRows, Nvfp4, PER_BYTE, PlainRows, Rows, TernaryRows,
};

/// A weight matrix of `rows` (outputs) by `columns` (inputs), row-major, as stored.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Outputs of the linear map.
    pub rows: usize,
    /// Inputs of the linear map.
    pub columns: usize,
    /// The stored values.
    pub format: Format<'a>,
}

/// How the values of a [`Matrix`] are stored.
#[derive(Clone, Copy, Debug)]
pub enum Format<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16: the upper half of an f32.
    Bf16(&'a [bf16]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// 8-bit floats e4m3 (no infinities) with a scale for each block:
    /// `w = code * scales[(row / block_rows) * ceil(columns / block_columns) + column / block_columns]`.
    /// A scale for each row is a block of (1, columns), one for the whole matrix a block of (rows, columns).
    Fp8E4m3 {
        /// One byte a value, `[rows, columns]`.
        codes: &'a [u8],
        /// `[ceil(rows / block_rows), ceil(columns / block_columns)]`.
        scales: &'a [f32],
        /// Rows of a block.
        block_rows: usize,
        /// Columns of a block.
        block_columns: usize,
    },
    /// 8-bit integers in groups of columns: `w = (code - zero_point) * scale`.
    Int8 {
        /// One byte a value, `[rows, columns]`.
        codes: &'a [i8],
        /// `[rows, ceil(columns / group)]`.
        scales: &'a [f32],
        /// Shaped as `scales`; `None` is 0 everywhere.
        zero_points: Option<&'a [f32]>,
        /// Columns that share a scale.
        group: usize,
    },
    /// Unsigned 4-bit integers in groups of columns: `w = (code - zero_point) * scale`.
    Int4 {
        /// Two values a byte, the even column in the low half: `[rows, ceil(columns / 2)]`.
        codes: &'a [u8],
        /// `[rows, ceil(columns / group)]`.
        scales: &'a [f32],
        /// Shaped as `scales`; `None` is 8 everywhere, the middle of the codes.
        zero_points: Option<&'a [f32]>,
        /// Columns that share a scale.
        group: usize,
    },
    /// MXFP4: 4-bit floats e2m1 that share a power of two in 32 columns, `w = e2m1(code) * 2^(scale - 127)`. A scale of
    /// 255 is NaN.
    Mxfp4 {
        /// Two values a byte, the even column in the low half: `[rows, ceil(columns / 2)]`.
        codes: &'a [u8],
        /// Exponents (e8m0), `[rows, ceil(columns / 32)]`.
        scales: &'a [u8],
    },
    /// NVFP4: 4-bit floats e2m1 that share an 8-bit scale in 16 columns,
    /// `w = e2m1(code) * (e4m3(scale) * global_scale)`.
    Nvfp4 {
        /// Two values a byte, the even column in the low half: `[rows, ceil(columns / 2)]`.
        codes: &'a [u8],
        /// Codes e4m3, `[rows, ceil(columns / 16)]`.
        scales: &'a [u8],
        /// A scale for the whole matrix.
        global_scale: f32,
    },
    /// -1, 0 and 1 with a scale for the whole matrix, `w = (code - 1) * scale`, in 2 bits.
    Ternary {
        /// `[lines, columns]` where `lines = ceil(rows / 4)`: row `r` is in the bits from `2 * (r / lines)` on of the
        /// bytes of line `r % lines`.
        codes: &'a [u8],
        /// A scale for the whole matrix.
        scale: f32,
    },
}

/// A part of a [`Matrix`] does not have the size that its shape asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeError {
    /// A block or group of no columns or rows.
    EmptyBlock {
        /// The matrix's rows.
        rows: usize,
        /// The matrix's columns.
        columns: usize,
    },
    /// A slice is too short or too long.
    Length {
        /// `values`, `codes`, `scales` or `zero points`.
        part: &'static str,
        /// The matrix's rows.
        rows: usize,
        /// The matrix's columns.
        columns: usize,
        /// Elements that the shape asks for; `None` where that number overflows.
        expected: Option<usize>,
        /// Elements that there are.
        found: usize,
    },
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyBlock { rows, columns } => {
                write!(f, "the scales of a [{rows}, {columns}] matrix cover blocks of size 0")
            }
            Self::Length { part, rows, columns, expected: Some(expected), found } => {
                write!(f, "a [{rows}, {columns}] matrix has {found} {part}, expected {expected}")
            }
            Self::Length { part, rows, columns, expected: None, found } => {
                write!(f, "a [{rows}, {columns}] matrix is too large to address and has {found} {part}")
            }
        }
    }
}

impl std::error::Error for ShapeError {}

impl Matrix<'_> {
    /// Checks that every slice has the length that the shape asks for.
    ///
    /// # Errors
    /// [`ShapeError`] names the first part that does not fit.
    pub fn check(&self) -> Result<(), ShapeError> {
        let (rows, columns) = (self.rows, self.columns);
        let length = |part, height: usize, width: usize, found: usize| {
            let expected = height.checked_mul(width);
            if expected == Some(found) {
                Ok(())
            } else {
                Err(ShapeError::Length { part, rows, columns, expected, found })
            }
        };
        let grouped = |scales: &[f32], zero_points: Option<&[f32]>, group: usize| {
            if group == 0 {
                return Err(ShapeError::EmptyBlock { rows, columns });
            }
            length("scales", rows, columns.div_ceil(group), scales.len())?;
            match zero_points {
                Some(zero_points) => length("zero points", rows, columns.div_ceil(group), zero_points.len()),
                None => Ok(()),
            }
        };
        match self.format {
            Format::F32(values) => length("values", rows, columns, values.len()),
            Format::Bf16(values) => length("values", rows, columns, values.len()),
            Format::F16(values) => length("values", rows, columns, values.len()),
            Format::Fp8E4m3 { codes, scales, block_rows, block_columns } => {
                if block_rows == 0 || block_columns == 0 {
                    return Err(ShapeError::EmptyBlock { rows, columns });
                }
                length("codes", rows, columns, codes.len())?;
                length("scales", rows.div_ceil(block_rows), columns.div_ceil(block_columns), scales.len())
            }
            Format::Int8 { codes, scales, zero_points, group } => {
                length("codes", rows, columns, codes.len())?;
                grouped(scales, zero_points, group)
            }
            Format::Int4 { codes, scales, zero_points, group } => {
                length("codes", rows, columns.div_ceil(2), codes.len())?;
                grouped(scales, zero_points, group)
            }
            Format::Mxfp4 { codes, scales } => {
                length("codes", rows, columns.div_ceil(2), codes.len())?;
                length("scales", rows, columns.div_ceil(Mxfp4::GROUP), scales.len())
            }
            Format::Nvfp4 { codes, scales, .. } => {
                length("codes", rows, columns.div_ceil(2), codes.len())?;
                length("scales", rows, columns.div_ceil(Nvfp4::GROUP), scales.len())
            }
            Format::Ternary { codes, .. } => length("codes", rows.div_ceil(PER_BYTE), columns, codes.len()),
        }
    }

    /// The values of one row, dequantised exactly (in f32 arithmetic, as the format's formula says).
    ///
    /// # Panics
    /// Where `row` is out of range, `out` is not `columns` long, or [`Self::check`] fails.
    pub fn widen_row(&self, row: usize, out: &mut [f32]) {
        struct WidenRow<'o> {
            row: usize,
            out: &'o mut [f32],
        }
        impl WithRows for WidenRow<'_> {
            type Output = ();
            fn run<R: Rows>(self, rows: R) {
                rows.widen(self.row, 0, self.out);
            }
        }
        assert!(
            row < self.rows && out.len() == self.columns,
            "row {row} of {} into {}",
            self.rows,
            out.len()
        );
        self.with_rows(WidenRow { row, out });
    }

    /// Hands the matrix, checked, to code that is generic over the format.
    pub(crate) fn with_rows<W: WithRows>(&self, with: W) -> W::Output {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
        let columns = self.columns;
        match self.format {
            Format::F32(values) => with.run(PlainRows { values, columns }),
            Format::Bf16(values) => with.run(PlainRows { values, columns }),
            Format::F16(values) => with.run(PlainRows { values, columns }),
            Format::Fp8E4m3 { codes, scales, block_rows, block_columns } => {
                with.run(Fp8Rows { codes, scales, columns, block_rows, block_columns })
            }
            Format::Int8 { codes, scales, zero_points: None, group } => {
                with.run(Int8Rows { codes, scales, zero_points: Always::<0>, columns, group })
            }
            Format::Int8 { codes, scales, zero_points: Some(zero_points), group } => {
                with.run(Int8Rows { codes, scales, zero_points, columns, group })
            }
            Format::Int4 { codes, scales, zero_points: None, group } => {
                let groups = Int4 { scales, zero_points: Always::<8>, group };
                with.run(NibbleRows { codes, columns, groups })
            }
            Format::Int4 { codes, scales, zero_points: Some(zero_points), group } => {
                with.run(NibbleRows { codes, columns, groups: Int4 { scales, zero_points, group } })
            }
            Format::Mxfp4 { codes, scales } => {
                with.run(NibbleRows { codes, columns, groups: Mxfp4 { scales } })
            }
            Format::Nvfp4 { codes, scales, global_scale } => {
                with.run(NibbleRows { codes, columns, groups: Nvfp4 { scales, global_scale } })
            }
            Format::Ternary { codes, scale } => {
                with.run(TernaryRows { codes, scale, rows: self.rows, columns })
            }
        }
    }
}

/// Code that is compiled once for each format.
pub(crate) trait WithRows {
    type Output;
    fn run<R: Rows>(self, rows: R) -> Self::Output;
}
