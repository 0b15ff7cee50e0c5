//! `y = x W^T`: the product of activations with a weight matrix as it is stored.

mod block;
mod decoded;
mod few;
mod fused_mlp;
mod many;
mod panels;

use half::bf16;

pub(crate) use fused_mlp::{FusedMlp, InnerFunction};

use crate::formats::Rows;
use crate::isa::{Isa, isa};
use crate::matrix::{Matrix, WithRows};
use crate::product::{Geometry, Precision};

/// The activations that enter a matrix product, row-major.
#[derive(Clone, Copy, Debug)]
pub enum Activations<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
}

impl<'a> From<&'a [f32]> for Activations<'a> {
    fn from(x: &'a [f32]) -> Self {
        Activations::F32(x)
    }
}

impl<'a> From<&'a [bf16]> for Activations<'a> {
    fn from(x: &'a [bf16]) -> Self {
        Activations::Bf16(x)
    }
}

impl<'a> Activations<'a> {
    pub(crate) fn len(self) -> usize {
        match self {
            Activations::F32(x) => x.len(),
            Activations::Bf16(x) => x.len(),
        }
    }

    fn slice(self, first: usize, length: usize) -> Activations<'a> {
        match self {
            Activations::F32(x) => Activations::F32(&x[first..first + length]),
            Activations::Bf16(x) => Activations::Bf16(&x[first..first + length]),
        }
    }
}

/// Do so many rows of x take dot products? They are faster than tiles whose lanes would be filled with little; where a
/// unit is a single value, they load twice as much for as many products.
pub(crate) fn is_few(isa: Isa, precision: Precision, rows: usize) -> bool {
    rows <= if Geometry::of(isa, precision).values == 2 { 24 } else { 12 }
}

/// `y[m, n] = x[m, k] W^T (+ bias)`, where w is an n by k matrix, bias has n values, and m follows from `y`.
///
/// The result does not depend on the number of threads. Each thread keeps at most [`SCRATCH_BYTES`](crate::SCRATCH_BYTES)
/// of working memory.
///
/// # Panics
/// Where the lengths do not fit together or [`Matrix::check`] fails.
pub fn linear(x: Activations, w: &Matrix, bias: Option<&[f32]>, precision: Precision, y: &mut [f32]) {
    struct Linear<'a> {
        x: Activations<'a>,
        bias: Option<&'a [f32]>,
        precision: Precision,
        y: &'a mut [f32],
        n: usize,
    }
    impl WithRows for Linear<'_> {
        type Output = ();
        fn run<R: Rows>(self, w: R) {
            multiply(self.x, &w, self.bias, self.precision, self.y, self.n);
        }
    }
    let (n, k) = (w.rows, w.columns);
    if n == 0 {
        assert!(y.is_empty(), "linear: the matrix has no rows, y has {} values", y.len());
        return;
    }
    assert!(
        y.len().is_multiple_of(n) && x.len() == y.len() / n * k,
        "linear: w is [{n}, {k}], x has {} values, y has {}",
        x.len(),
        y.len()
    );
    assert!(bias.is_none_or(|bias| bias.len() == n), "linear: bias does not have {n} values");
    w.with_rows(Linear { x, bias, precision, y, n });
}

fn multiply<R: Rows>(
    x: Activations,
    w: &R,
    bias: Option<&[f32]>,
    precision: Precision,
    y: &mut [f32],
    n: usize,
) {
    let (m, k, isa) = (y.len() / n, w.columns(), isa());
    if m == 0 {
        return;
    }
    if k == 0 {
        y.chunks_exact_mut(n).for_each(|row| match bias {
            Some(bias) => row.copy_from_slice(bias),
            None => row.fill(0.0),
        });
    } else if decoded::suits(isa, precision, m, w) {
        decoded::multiply(isa, precision, x, w, bias, y, n);
    } else if is_few(isa, precision, m) {
        few::multiply(isa, precision, x, w, bias, y, n);
    } else {
        many::multiply(isa, precision, x, w, bias, y, n);
    }
}

#[cfg(test)]
mod tests;
