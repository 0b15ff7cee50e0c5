//! `linear FORMAT PRECISION M N K`: products with a weight matrix of N by K.

use half::{bf16, f16};
use sli_kernels::{Activations, Format, Matrix, Precision, linear};

use crate::{Case, Work, values};

/// (N, K) of layers of a few billion parameters.
const SHAPES: [(usize, usize); 2] = [(4096, 4096), (11008, 4096)];
const ROWS: [usize; 9] = [1, 2, 4, 8, 16, 64, 256, 512, 2048];
/// Formats of weights, and whether products are rounded to bf16.
const FORMATS: [(&str, Precision); 10] = [
    ("bf16", Precision::Bf16),
    ("bf16", Precision::F32),
    ("f32", Precision::F32),
    ("f16", Precision::Bf16),
    ("fp8", Precision::Bf16),
    ("int8", Precision::Bf16),
    ("int4", Precision::Bf16),
    ("int4-32", Precision::Bf16),
    ("mxfp4", Precision::Bf16),
    ("nvfp4", Precision::Bf16),
];
/// Bytes of weights that no cache holds: a run meets each matrix once, as it comes from the disk.
const COLD: usize = 256 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, k) in SHAPES {
        for m in ROWS {
            for (format, precision) in FORMATS {
                let inputs = if precision == Precision::F32 { "f32" } else { "bf16" };
                let name = format!("linear {format} {inputs} {m} {n} {k}");
                let work = Work::Flops(2 * m * n * k, precision);
                cases.push(Case::new(name, work, move || prepare(format, precision, m, n, k)));
            }
        }
    }
    cases
}

fn prepare(format: &'static str, precision: Precision, m: usize, n: usize, k: usize) -> Box<dyn FnMut()> {
    let stored = Stored::new(format, n, k);
    let copies = if m <= 16 { COLD.div_ceil(stored.bytes()) } else { 1 };
    let copies = vec![stored; copies];
    let (x, mut y, mut turn) = (values(m * k), vec![0.0; m * n], 0);
    Box::new(move || {
        let matrix = copies[turn % copies.len()].matrix(format);
        linear(Activations::F32(&x), &matrix, None, precision, &mut y);
        turn += 1;
    })
}

/// A matrix that owns its parts, of which each format uses some.
#[derive(Clone, Default)]
struct Stored {
    n: usize,
    k: usize,
    wide: Vec<f32>,
    half: Vec<f16>,
    brain: Vec<bf16>,
    signed: Vec<i8>,
    codes: Vec<u8>,
    scales: Vec<f32>,
    scale_codes: Vec<u8>,
}

impl Stored {
    fn new(format: &str, n: usize, k: usize) -> Self {
        let mut stored = Self { n, k, ..Self::default() };
        // e4m3 has no NaN among these.
        let codes = |length: usize| -> Vec<u8> { (0..length).map(|i| (i * 37 % 120) as u8).collect() };
        match format {
            "f32" => stored.wide = values(n * k),
            "f16" => stored.half = values(n * k).into_iter().map(f16::from_f32).collect(),
            "bf16" => stored.brain = values(n * k).into_iter().map(bf16::from_f32).collect(),
            "fp8" => stored.codes = codes(n * k),
            "int8" => stored.signed = codes(n * k).into_iter().map(|code| code as i8 - 60).collect(),
            _ => stored.codes = codes(n * k / 2),
        }
        match format {
            "fp8" => stored.scales = vec![0.01; n.div_ceil(128) * k.div_ceil(128)],
            "int8" | "int4" => stored.scales = vec![0.01; n * k / 128],
            "int4-32" => stored.scales = vec![0.01; n * k / 32],
            // 2^-7 to 1, as models have: weights or results that are no normal numbers take another time.
            "mxfp4" => stored.scale_codes = (0..n * k / 32).map(|i| 120 + (i * 37 % 8) as u8).collect(),
            "nvfp4" => stored.scale_codes = codes(n * k / 16),
            _ => {}
        }
        stored
    }

    fn bytes(&self) -> usize {
        4 * (self.wide.len() + self.scales.len())
            + 2 * (self.half.len() + self.brain.len())
            + self.signed.len()
            + self.codes.len()
            + self.scale_codes.len()
    }

    fn matrix(&self, format: &str) -> Matrix<'_> {
        let Self { codes, scales, scale_codes, .. } = self;
        let format = match format {
            "f32" => Format::F32(&self.wide),
            "f16" => Format::F16(&self.half),
            "bf16" => Format::Bf16(&self.brain),
            "fp8" => Format::Fp8E4m3 { codes, scales, block_rows: 128, block_columns: 128 },
            "int8" => Format::Int8 { codes: &self.signed, scales, zero_points: None, group: 128 },
            "int4" => Format::Int4 { codes, scales, zero_points: None, group: 128 },
            "int4-32" => Format::Int4 { codes, scales, zero_points: None, group: 32 },
            "mxfp4" => Format::Mxfp4 { codes, scales: scale_codes },
            _ => Format::Nvfp4 { codes, scales: scale_codes, global_scale: 0.01 },
        };
        Matrix { rows: self.n, columns: self.k, format }
    }
}
