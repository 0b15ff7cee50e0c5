//! y = x W^T + b, with the weight as the backend keeps it.

use burn::tensor::{Device, Tensor};
use sli_core::{Result, TensorRole};
use sli_kernels::Precision;

use crate::backend::{SliBackend, vector};
use crate::tensors::LayerTensors;

/// A projection of each token.
#[derive(Clone, Debug)]
pub struct Linear<B: SliBackend> {
    pub(crate) weight: B::Matrix,
    pub(crate) bias: Option<Tensor<B, 1>>,
}

impl<B: SliBackend> Linear<B> {
    /// Takes the role's weight [out, in], and its bias `[out]` where `bias` says that there is one.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(
        tensors: &LayerTensors,
        role: TensorRole,
        bias: bool,
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        let weight = B::load_matrix(tensors.weight(role)?, precision, device);
        let bias = tensors.bias_if(role, bias)?.map(|bias| vector(bias, device));
        Ok(Self { weight, bias })
    }

    /// [tokens, in] -> [tokens, out].
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::matrix_product(x, &self.weight, self.bias.as_ref())
    }
}
