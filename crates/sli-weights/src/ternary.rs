//! Rounding a matrix to -1, 0 and 1 times one number while it is loaded (BitNet b1.58; Ma et al. 2024).

use sli_core::{Dtype, HostTensor, Scales, TERNARY_ROWS};

use crate::memory::Memory;

/// The least mean magnitude that a matrix is divided by.
const LEAST_MEAN: f32 = 1e-5;

/// Rows and columns of the codes of a matrix of this shape.
pub(crate) fn code_shape(shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if let Some(rows) = shape.first_mut() {
        *rows = rows.div_ceil(TERNARY_ROWS);
    }
    shape
}

/// Each element becomes the nearest of -1, 0 and 1 times the mean magnitude of all. Widens a row at a time.
pub(crate) fn rounded(matrix: &HostTensor, memory: &mut Memory) -> HostTensor {
    let (rows, shape) = (matrix.shape()[0], code_shape(matrix.shape()));
    let row = |index: usize| matrix.rows(index, 1);
    let of_row = |index| row(index).to_f32().iter().map(|value| f64::from(value.abs())).sum::<f64>();
    let mean = ((0..rows).map(of_row).sum::<f64>() / matrix.len() as f64) as f32;
    let scale = 1.0 / mean.max(LEAST_MEAN);

    let bytes = shape.iter().product::<usize>();
    let mut out = memory.buffer(bytes);
    let (lines, width) = (shape[0], bytes / shape[0]);
    out[..bytes].fill(0);
    for index in 0..rows {
        let bit = 2 * (index / lines);
        let line = &mut out[index % lines * width..][..width];
        for (code, value) in line.iter_mut().zip(&*row(index).to_f32()) {
            *code |= (((value * scale).round_ties_even().clamp(-1.0, 1.0) + 1.0) as u8) << bit;
        }
    }
    let codes = HostTensor::new(Dtype::U8, shape, out.into_bytes().slice(..bytes));
    codes.with_scales(Scales::Ternary { rows, scale: 1.0 / scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_rounded_to_shares_of_the_mean() {
        // The mean is one; 0.5 lies in the middle, and zero is even.
        let values = [2.0, -0.5, 0.6, -1.4, 0.0, 0.5, -3.0, 1.0, 0.0, 1.0];
        let matrix = HostTensor::from_f32(&values, &[5, 2]);
        let rounded = rounded(&matrix, &mut Memory::unpooled());
        assert_eq!(rounded.matrix_shape(), [5, 2]);
        assert_eq!(*rounded.to_f32(), [1.0, 0.0, 1.0, -1.0, 0.0, 0.0, -1.0, 1.0, 0.0, 1.0]);
        assert_eq!(rounded.bytes().len(), 4);
    }
}
