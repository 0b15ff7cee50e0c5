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
    /// Standard deviations above its mean from which on a gate counts.
    cutoff: Option<f64>,
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
            cutoff: None,
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
            cutoff: None,
            gate: Some(linear(gate)?),
            up: linear(up)?,
            down: linear(down)?,
        })
    }

    /// The same with most of the gate's values cut off.
    pub(crate) fn thinned(self, cutoff: f64) -> Self {
        Self { cutoff: Some(cutoff), ..self }
    }

    /// [tokens, hidden] -> [tokens, hidden].
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let inner = match &self.gate {
            Some(gate) => {
                let gate = match self.cutoff {
                    Some(cutoff) => thinned(gate.forward(x.clone()), cutoff),
                    None => gate.forward(x.clone()),
                };
                B::gated_nonlinearity(self.activation, gate, self.up.forward(x))
            }
            None => B::nonlinearity(self.activation, self.up.forward(x)),
        };
        self.down.forward(inner)
    }
}

/// max(x - threshold, 0), where the threshold of a row is its mean plus `cutoff` standard deviations.
fn thinned<B: SliBackend>(x: Tensor<B, 2>, cutoff: f64) -> Tensor<B, 2> {
    let centred = x.clone() - x.mean_dim(1);
    let deviation = (centred.clone() * centred.clone()).mean_dim(1).sqrt();
    (centred - deviation * cutoff).clamp_min(0.0)
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
