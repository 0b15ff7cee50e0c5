//! Multi-layer perceptrons, plain and gated.

use burn::tensor::{Device, Tensor};
use sli_core::{MlpSpec, Result, TensorRole};
use sli_kernels::{Activation, Precision};

use crate::backend::SliBackend;
use crate::linear::Linear;
use crate::tensors::LayerTensors;

/// down(act(up(x))), or down(act(gate(x)) * up(x)) where there is a gate.
#[derive(Clone, Debug)]
pub struct Mlp<B: SliBackend> {
    activation: Activation,
    gate: Option<Linear<B>>,
    up: Linear<B>,
    down: Linear<B>,
}

impl<B: SliBackend> Mlp<B> {
    /// An MLP without a gate.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn plain(
        spec: &MlpSpec,
        tensors: &LayerTensors,
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        let linear = |role| Linear::new(tensors, role, spec.bias, precision, device);
        Ok(Self {
            activation: kernel_activation(spec.activation),
            gate: None,
            up: linear(TensorRole::MlpUp)?,
            down: linear(TensorRole::MlpDown)?,
        })
    }

    /// A gated MLP under these roles.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn gated(
        spec: &MlpSpec,
        tensors: &LayerTensors,
        [gate, up, down]: [TensorRole; 3],
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        let linear = |role| Linear::new(tensors, role, spec.bias, precision, device);
        Ok(Self {
            activation: kernel_activation(spec.activation),
            gate: Some(linear(gate)?),
            up: linear(up)?,
            down: linear(down)?,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden].
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let inner = match &self.gate {
            Some(gate) => {
                let gate = gate.forward(x.clone());
                B::gated_nonlinearity(self.activation, gate, self.up.forward(x))
            }
            None => B::nonlinearity(self.activation, self.up.forward(x)),
        };
        self.down.forward(inner)
    }
}

/// The kernel of an activation.
pub(crate) fn kernel_activation(activation: sli_core::Activation) -> Activation {
    use sli_core::Activation as Spec;
    match activation {
        Spec::Identity => Activation::Identity,
        Spec::Relu => Activation::Relu,
        Spec::ReluSquared => Activation::ReluSquared,
        Spec::Gelu => Activation::Gelu,
        Spec::GeluTanh => Activation::GeluTanh,
        Spec::QuickGelu => Activation::QuickGelu,
        Spec::Silu => Activation::Silu,
        Spec::Sigmoid => Activation::Sigmoid,
        Spec::Tanh => Activation::Tanh,
        Spec::Softplus => Activation::Softplus,
    }
}
