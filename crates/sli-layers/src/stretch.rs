//! What is moved and stretched by learned vectors.

use burn::tensor::{Device, Tensor};
use sli_core::{Result, TensorRole};

use crate::backend::{SliBackend, vector};
use crate::tensors::LayerTensors;

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
    pub(crate) fn load(role: TensorRole, tensors: &LayerTensors, device: &Device<B>) -> Result<Self> {
        let weight = vector(tensors.get(role.weight())?, device);
        Ok(Self { weight, bias: vector(tensors.get(role.bias())?, device) })
    }

    /// [tokens, width] -> the same shape.
    pub(crate) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        (x + self.bias.clone().unsqueeze()) * self.weight.clone().unsqueeze()
    }
}
