//! A gated short convolution in place of attention (LFM2).

use burn::tensor::{Tensor, s};
use sli_core::{Result, ShortConvSpec, TensorRole};

use crate::backend::SliBackend;
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;

/// in -> (b, c, x); out(c * convolution(b * x)).
#[derive(Clone, Debug)]
pub(crate) struct ShortConvLayer<B: SliBackend> {
    input: Linear<B>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
    output: Linear<B>,
}

impl<B: SliBackend> ShortConvLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &ShortConvSpec, loader: &Loader<B>) -> Result<Self> {
        let linear = |role| Linear::new(loader, role, spec.bias);
        Ok(Self {
            input: linear(TensorRole::ConvIn)?,
            weight: loader.table(TensorRole::ConvTaps)?,
            bias: loader.bias_if(TensorRole::ConvTaps, spec.bias)?,
            output: linear(TensorRole::ConvOut)?,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], zeros before each sample.
    pub(crate) fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let hidden = x.dims()[1];
        let projected = self.input.forward(x); // [tokens, 3 * hidden]
        let third = |n: usize| projected.clone().slice(s![.., n * hidden..(n + 1) * hidden]);
        let (b, c, x) = (third(0), third(1), third(2));
        let y = B::causal_convolution(b * x, &self.weight, self.bias.as_ref(), context.offsets);
        self.output.forward(c * y)
    }
}
