//! Tokens in the places of others of their sample.

use burn::tensor::Tensor;

use crate::backend::SliBackend;

/// Row t of a sample is its row t - lag; where there is none, `outside` [1, width].
pub(crate) fn shifted<B: SliBackend>(
    x: Tensor<B, 2>,
    outside: Tensor<B, 2>,
    lag: isize,
    offsets: &[usize],
) -> Tensor<B, 2> {
    if lag == 0 {
        return x;
    }
    let beyond = x.dims()[0];
    let row = |sample: &[usize], t: usize| {
        let row = t.checked_add_signed(-lag).filter(|row| (sample[0]..sample[1]).contains(row));
        row.unwrap_or(beyond) as u32
    };
    let rows = offsets.windows(2).flat_map(|sample| (sample[0]..sample[1]).map(move |t| row(sample, t)));
    B::gather(&Tensor::cat(vec![x, outside], 0), &rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use burn::backend::NdArray;

    use super::*;

    #[test]
    fn samples_are_shifted_by_themselves_both_ways() {
        let device = Default::default();
        let x = NdArray::<f32>::from_host(vec![1.0, 2.0, 3.0, 4.0, 5.0], 1, &device);
        let outside = Tensor::zeros([1, 1], &device);
        let moved = |lag| NdArray::<f32>::to_host(shifted(x.clone(), outside.clone(), lag, &[0, 3, 3, 5]));
        assert_eq!(moved(1), [0.0, 1.0, 2.0, 0.0, 4.0]);
        assert_eq!(moved(-1), [2.0, 3.0, 0.0, 5.0, 0.0]);
        assert_eq!(moved(2), [0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(moved(0), [1.0, 2.0, 3.0, 4.0, 5.0]);
    }
}
