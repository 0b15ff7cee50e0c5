//! Differential attention over packed samples (Ye et al. 2024).

use burn::tensor::{Tensor, s};
use sli_core::{DifferentialSpec, HostTensor, Result, TensorRole};
use sli_kernels::{Attention, Precision};

use crate::backend::SliBackend;
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;

/// Differential attention with its weights.
#[derive(Clone, Debug)]
pub(crate) struct DifferentialLayer<B: SliBackend> {
    spec: DifferentialSpec,
    precision: Precision,
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    output: Linear<B>,
    /// What the second half of the heads is multiplied by before it is taken from the first.
    lambda: f32,
    norm: Norm<B>,
}

impl<B: SliBackend> DifferentialLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &DifferentialSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{AttnK, AttnOut, AttnQ, AttnV, LambdaK1, LambdaK2, LambdaQ1, LambdaQ2};
        let linear = |role, bias| Linear::new(loader, role, bias);
        let learned = |query, key| {
            Ok::<_, sli_core::SliError>(dot(loader.tensors.weight(query)?, loader.tensors.weight(key)?).exp())
        };
        let bias = spec.attention.bias;
        // There is no weight to load: the norm is over each difference.
        let norm = Norm::new(spec.norm, None, None, loader.device).over(2 * spec.attention.value_dim);
        Ok(Self {
            precision: loader.precision,
            query: linear(AttnQ, bias.query)?,
            key: linear(AttnK, bias.key)?,
            value: linear(AttnV, bias.value)?,
            output: linear(AttnOut, bias.output)?,
            lambda: learned(LambdaQ1, LambdaK1)? - learned(LambdaQ2, LambdaK2)? + spec.lambda_init as f32,
            norm,
            spec: spec.clone(),
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], each sample looking at itself.
    pub(crate) fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let spec = &self.spec.attention;
        let table = context.rotation(&spec.position);
        let rotated = |x, heads| ChunkContext::rotated(x, heads, table.as_ref());
        let query = rotated(self.query.forward(x.clone()), spec.num_heads);
        let key = rotated(self.key.forward(x.clone()), spec.num_kv_heads);
        let value = beside_counterparts(self.value.forward(x), spec.num_kv_heads);
        let attention = Attention::causal(
            [spec.num_heads, spec.num_kv_heads],
            [spec.head_dim, 2 * spec.value_dim],
            spec.scale as f32,
        );
        let offsets = context.offsets;
        let seen = B::packed_attention(&attention, query, key, value, offsets, offsets, self.precision);
        let half = spec.num_heads * spec.value_dim;
        let first = seen.clone().slice(s![.., 0..half]);
        let difference = first - seen.slice(s![.., half..]) * self.lambda; // [tokens, heads / 2 * 2 value_dim]
        self.output.forward(self.norm.forward(difference) * (1.0 - self.spec.lambda_init))
    }
}

/// For each of `heads` heads the values of its place in the first half of the heads, and then in the second:
/// [tokens, heads * dim] -> [tokens, heads * 2 dim].
fn beside_counterparts<B: SliBackend>(value: Tensor<B, 2>, heads: usize) -> Tensor<B, 2> {
    let [tokens, width] = value.dims();
    let halves: Tensor<B, 4> = value.reshape([tokens, 2, heads / 2, width / heads]);
    let of_half = halves.swap_dims(1, 2).reshape([tokens, width]);
    Tensor::cat(vec![of_half.clone(), of_half], 1)
}

fn dot(a: &HostTensor, b: &HostTensor) -> f32 {
    a.to_f32().iter().zip(&*b.to_f32()).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use burn::backend::NdArray;
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn each_head_gets_the_values_of_both_halves() {
        // Four heads of one value.
        let value = TensorData::new(vec![0.0f32, 1.0, 2.0, 3.0], [1, 4]);
        let value = Tensor::<NdArray, 2>::from_data(value, &Default::default());
        let wide = beside_counterparts(value, 4).into_data().into_vec::<f32>().unwrap();
        assert_eq!(wide, [0.0, 2.0, 1.0, 3.0, 0.0, 2.0, 1.0, 3.0]);
    }
}
