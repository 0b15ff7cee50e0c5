use half::{bf16, f16};

use crate::isa::isa;
use crate::isa::tests::for_each_isa;
use crate::matrix::{Format, Matrix, ShapeError, WithRows};
use crate::product::{Arithmetic, Precision, ProductKernel, dispatch_product};
use crate::simd::Simd;
use crate::testing::Random;

use super::Rows;

/// A matrix that owns its parts.
pub(crate) struct Stored {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) kind: &'static str,
    wide: Vec<f32>,
    half: Vec<f16>,
    brain: Vec<bf16>,
    signed: Vec<i8>,
    bytes: Vec<u8>,
    scales: Vec<f32>,
    /// Codes of scales near 1, both as e8m0 and as e4m3.
    scale_codes: Vec<u8>,
    zero_points: Vec<f32>,
    block: (usize, usize),
}

pub(crate) const KINDS: [&str; 11] =
    ["f32", "bf16", "f16", "fp8", "int8", "int8 zero", "int4", "int4 zero", "mxfp4", "nvfp4", "ternary"];

impl Stored {
    /// Random values of a few units; `group` is the length of a run for formats that have one.
    pub(crate) fn random(kind: &'static str, rows: usize, columns: usize, group: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let wide = random.values(rows * columns);
        let codes = (0..rows * columns).map(|_| random.next() as u8);
        // e4m3 has two NaN codes, which have a test of their own.
        let bytes: Vec<u8> = codes.map(|code| if code & 0x7f == 0x7f { 0x38 } else { code }).collect();
        let groups = rows * columns.div_ceil(group.max(1));
        Self {
            rows,
            columns,
            kind,
            half: wide.iter().map(|&x| f16::from_f32(x)).collect(),
            brain: wide.iter().map(|&x| bf16::from_f32(x)).collect(),
            signed: bytes.iter().map(|&code| code as i8).collect(),
            scales: random.values(groups).iter().map(|x| x * 0.01).collect(),
            scale_codes: (0..rows * columns.div_ceil(16)).map(|_| 120 + random.next() as u8 % 7).collect(),
            zero_points: random.values(groups).iter().map(|x| (x * 4.0).round()).collect(),
            wide,
            bytes,
            block: (3, group),
        }
    }

    pub(crate) fn matrix(&self) -> Matrix<'_> {
        let (block_rows, group) = self.block;
        let groups = self.columns.div_ceil(group.max(1));
        let zero_points = self.kind.ends_with("zero").then_some(&self.zero_points[..]);
        let format = match self.kind {
            "f32" => Format::F32(&self.wide),
            "bf16" => Format::Bf16(&self.brain),
            "f16" => Format::F16(&self.half),
            "fp8" => Format::Fp8E4m3 {
                codes: &self.bytes,
                scales: &self.scales[..self.rows.div_ceil(block_rows) * groups],
                block_rows,
                block_columns: group,
            },
            "int8" | "int8 zero" => {
                Format::Int8 { codes: &self.signed, scales: &self.scales, zero_points, group }
            }
            "mxfp4" => Format::Mxfp4 {
                codes: self.nibbles(),
                scales: &self.scale_codes[..self.rows * self.columns.div_ceil(32)],
            },
            "nvfp4" => {
                Format::Nvfp4 { codes: self.nibbles(), scales: &self.scale_codes, global_scale: 0.003 }
            }
            "ternary" => {
                let codes = &self.bytes[..self.rows.div_ceil(4) * self.columns];
                Format::Ternary { codes, scale: 0.3 }
            }
            _ => Format::Int4 { codes: self.nibbles(), scales: &self.scales, zero_points, group },
        };
        Matrix { rows: self.rows, columns: self.columns, format }
    }

    /// The bytes of formats of 4 bits.
    fn nibbles(&self) -> &[u8] {
        &self.bytes[..self.rows * self.columns.div_ceil(2)]
    }

    /// The value at (row, column) by the formulas in [`Format`].
    pub(crate) fn value(&self, row: usize, column: usize) -> f32 {
        let at = row * self.columns + column;
        let (block_rows, group) = self.block;
        let groups = self.columns.div_ceil(group.max(1));
        let index = row * groups + column / group.max(1);
        let zero = |none: f32| if self.kind.ends_with("zero") { self.zero_points[index] } else { none };
        match self.kind {
            "f32" => self.wide[at],
            "bf16" => self.brain[at].to_f32(),
            "f16" => self.half[at].to_f32(),
            "fp8" => e4m3(self.bytes[at]) * self.scales[row / block_rows * groups + column / group],
            "int8" | "int8 zero" => (f32::from(self.signed[at]) - zero(0.0)) * self.scales[index],
            "ternary" => {
                let lines = self.rows.div_ceil(4);
                let byte = self.bytes[row % lines * self.columns + column];
                (f32::from(byte >> (2 * (row / lines)) & 3) - 1.0) * 0.3
            }
            kind => {
                let byte = self.bytes[row * self.columns.div_ceil(2) + column / 2];
                let code = if column.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
                let scale = |group| self.scale_codes[row * self.columns.div_ceil(group) + column / group];
                match kind {
                    "mxfp4" => e2m1(code) * 2f32.powi(i32::from(scale(32)) - 127),
                    "nvfp4" => e2m1(code) * (e4m3(scale(16)) * 0.003),
                    _ => (f32::from(code) - zero(8.0)) * self.scales[index],
                }
            }
        }
    }
}

/// An e2m1 code by the definition of the format.
fn e2m1(code: u8) -> f32 {
    let sign = if code & 8 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(code >> 1 & 3), f32::from(code & 1) / 2.0);
    if exponent == 0 { sign * fraction } else { sign * (1.0 + fraction) * 2f32.powi(exponent - 1) }
}

/// An e4m3 code by the definition of the format.
fn e4m3(code: u8) -> f32 {
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7) / 8.0);
    match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => sign * fraction * 2f32.powi(-6),
        _ => sign * (1.0 + fraction) * 2f32.powi(exponent - 7),
    }
}

#[test]
fn rows_widen_as_the_formula_says() {
    for kind in KINDS {
        for (rows, columns, group) in
            [(5, 48, 32), (4, 7, 3), (3, 1, 1), (7, 130, 128), (2, 64, 16), (1, 33, 64)]
        {
            let stored = Stored::random(kind, rows, columns, group, 7);
            let mut row_values = vec![0.0; columns];
            for row in 0..rows {
                stored.matrix().widen_row(row, &mut row_values);
                for (column, &found) in row_values.iter().enumerate() {
                    assert_eq!(
                        found,
                        stored.value(row, column),
                        "{kind} [{rows}, {columns}] at ({row}, {column})"
                    );
                }
            }
        }
    }
}

/// What the vector code of a format reads in the first `columns` columns, a multiple of LANES, and of twice as many where
/// `two` are read at once.
struct Vectors {
    row: usize,
    columns: usize,
    two: bool,
}

impl WithRows for Vectors {
    type Output = Vec<f32>;
    fn run<R: Rows>(self, rows: R) -> Vec<f32> {
        struct Read<R>(R, Vectors);
        impl<R: Rows> ProductKernel for Read<R> {
            type Output = Vec<f32>;
            #[inline(always)]
            fn run<A: Arithmetic>(self, a: A) -> Vec<f32> {
                let Self(rows, Vectors { row, columns, two }) = self;
                let (s, lanes) = (a.simd(), A::S::LANES);
                let step = if two { 2 * lanes } else { lanes };
                let mut out = vec![0.0; columns];
                for (at, out) in (0..columns).step_by(step).zip(out.chunks_exact_mut(step)) {
                    let scale = rows.scale(a, rows.first_scale(row), at / rows.run::<A>());
                    // SAFETY: `columns` is a multiple of the step and within the row, and the step divides the run.
                    unsafe {
                        if two {
                            let [first, second] = rows.two_units(a, row, at, scale);
                            s.store(out, first);
                            s.store(&mut out[lanes..], second);
                        } else {
                            s.store(out, rows.units(a, row, at, scale));
                        }
                    }
                }
                out
            }
        }
        dispatch_product(isa(), Precision::F32, Read(rows, self))
    }
}

#[test]
fn vectors_equal_the_scalar_code() {
    for_each_isa(|isa| {
        for kind in KINDS {
            let stored = Stored::random(kind, 5, 48, 16, 3);
            for row in 0..5 {
                let found = stored.matrix().with_rows(Vectors { row, columns: 48, two: false });
                for (column, found) in found.into_iter().enumerate() {
                    assert_eq!(found, stored.value(row, column), "{isa} {kind} at ({row}, {column})");
                }
            }
        }
    });
}

#[test]
fn every_e4m3_code_widens_exactly() {
    let codes: Vec<u8> = (0..=255).collect();
    let format = Format::Fp8E4m3 { codes: &codes, scales: &[1.0], block_rows: 1, block_columns: 256 };
    let matrix = Matrix { rows: 1, columns: 256, format };
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    let mut row = vec![0.0; 256];
    matrix.widen_row(0, &mut row);
    for code in 0..=255u8 {
        assert!(same(row[usize::from(code)], e4m3(code)), "code {code:#x}");
    }
    for_each_isa(|isa| {
        for two in [false, true] {
            let found = matrix.with_rows(Vectors { row: 0, columns: 256, two });
            for code in 0..=255u8 {
                let found = found[usize::from(code)];
                assert!(same(found, e4m3(code)), "{isa}: code {code:#x} gives {found}, not {}", e4m3(code));
            }
        }
    });
}

#[test]
fn misfits_are_named() {
    let matrix = Matrix { rows: 2, columns: 3, format: Format::F32(&[0.0; 5]) };
    assert_eq!(matrix.check().unwrap_err().to_string(), "a [2, 3] matrix has 5 values, expected 6");
    let format = Format::Int4 { codes: &[0; 4], scales: &[1.0; 3], zero_points: None, group: 2 };
    let matrix = Matrix { rows: 2, columns: 3, format };
    assert_eq!(matrix.check().unwrap_err().to_string(), "a [2, 3] matrix has 3 scales, expected 4");
    let format = Format::Int8 { codes: &[0; 6], scales: &[], zero_points: None, group: 0 };
    let matrix = Matrix { rows: 2, columns: 3, format };
    assert_eq!(matrix.check(), Err(ShapeError::EmptyBlock { rows: 2, columns: 3 }));
    let matrix = Matrix { rows: usize::MAX, columns: 2, format: Format::F32(&[]) };
    assert!(matrix.check().unwrap_err().to_string().contains("too large"));
}
