//! RMS norm and layer norm.

use burn::tensor::{Device, Tensor};
use sli_core::{HostTensor, NormSpec, Result, TensorRole};

use crate::backend::{SliBackend, vector};
use crate::tensors::LayerTensors;

/// A norm with its weights. Rows wider than the weight are normalised piece by piece, as heads are.
#[derive(Clone, Debug)]
pub struct Norm<B: SliBackend> {
    spec: NormSpec,
    weight: Tensor<B, 1>,
    bias: Option<Tensor<B, 1>>,
}

impl<B: SliBackend> Norm<B> {
    /// A norm over the width of `weight`.
    pub fn new(spec: NormSpec, weight: &HostTensor, bias: Option<&HostTensor>, device: &Device<B>) -> Self {
        Self { spec, weight: vector(weight, device), bias: bias.map(|bias| vector(bias, device)) }
    }

    /// Takes the role's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn load(
        spec: NormSpec,
        tensors: &LayerTensors,
        role: TensorRole,
        device: &Device<B>,
    ) -> Result<Self> {
        Ok(Self::new(spec, tensors.weight(role)?, tensors.bias_if(role, spec.has_bias())?, device))
    }

    /// [tokens, n * width] -> the same shape.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::normalize(x, self.spec, &self.weight, self.bias.as_ref())
    }
}
