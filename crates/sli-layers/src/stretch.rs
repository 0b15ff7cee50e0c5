//! What is moved and stretched by learned vectors.

use burn::tensor::Tensor;
use sli_core::{Result, TensorRole};

use crate::backend::SliBackend;
use crate::loader::Loader;

/// x -> (x + bias) * weight.
#[derive(Clone, Debug)]
pub(crate) struct Stretch<B: SliBackend> {
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
}

impl<B: SliBackend> Stretch<B> {
    /// Takes the role's vectors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(role: TensorRole, loader: &Loader<B>) -> Result<Self> {
        Ok(Self { weight: loader.vector(role)?, bias: loader.bias(role)? })
    }

    /// [tokens, width] -> the same shape.
    pub(crate) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        (x + self.bias.clone().unsqueeze()) * self.weight.clone().unsqueeze()
    }
}
