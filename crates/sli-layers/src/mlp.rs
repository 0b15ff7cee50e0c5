//! Multi-layer perceptrons, plain and gated.

use burn::tensor::{Device, Tensor};
use sli_core::{ClampedMlpSpec, ExpertSpec, MlpSpec, NormSpec, Result, TensorRole};
use sli_kernels::{Activation, Precision};

use crate::backend::SliBackend;
use crate::linear::Linear;
use crate::norm::Norm;
use crate::tensors::LayerTensors;
use crate::xielu::Xielu;

/// down(norm(inner(x))), where what is inside depends on the gate, and few have a norm.
#[derive(Clone, Debug)]
pub struct Mlp<B: SliBackend> {
    gate: Gate<B>,
    up: Linear<B>,
    norm: Option<Norm<B>>,
    down: Linear<B>,
}

/// What becomes of up(x).
#[derive(Clone, Debug)]
enum Gate<B: SliBackend> {
    /// act(up(x)).
    None(Activation),
    /// xielu(up(x)).
    Xielu(Xielu),
    /// act(gate(x)) * up(x).
    Activated(Activation, Linear<B>),
    /// act(t) * up(x), where of t = gate(x) only what exceeds its mean by so many standard deviations is left.
    Thinned(Activation, Linear<B>, f64),
    /// g * sigmoid(alpha g) * (u + 1), bounded.
    Clamped { gate: Linear<B>, limit: f32, alpha: f32 },
}

impl<B: SliBackend> Mlp<B> {
    /// An MLP without a gate, under the roles of up and down.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn plain(
        spec: &MlpSpec,
        tensors: &LayerTensors,
        [up, down]: [TensorRole; 2],
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        let linear = |role| Linear::new(tensors, role, spec.bias, precision, device);
        let gate = Gate::None(kernel_activation(spec.activation));
        Ok(Self { gate, up: linear(up)?, norm: None, down: linear(down)? })
    }

    /// The same with an activation whose slopes were learned.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn xielu(tensors: &LayerTensors, precision: Precision, device: &Device<B>) -> Result<Self> {
        let linear = |role| Linear::new(tensors, role, false, precision, device);
        let (up, down) = (linear(TensorRole::MlpUp)?, linear(TensorRole::MlpDown)?);
        Ok(Self { gate: Gate::Xielu(Xielu::load(tensors)?), up, norm: None, down })
    }

    /// A gated MLP, under the roles of gate, up and down.
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
        let gate = Gate::Activated(kernel_activation(spec.activation), linear(gate)?);
        Ok(Self { gate, up: linear(up)?, norm: None, down: linear(down)? })
    }

    /// An expert's network, under the roles of gate, up and down.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn expert(
        spec: &ExpertSpec,
        tensors: &LayerTensors,
        [gate, up, down]: [TensorRole; 3],
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        match spec {
            ExpertSpec::Gated(mlp) => Self::gated(mlp, tensors, [gate, up, down], precision, device),
            ExpertSpec::Plain(mlp) => Self::plain(mlp, tensors, [up, down], precision, device),
            ExpertSpec::Clamped(mlp) => Self::clamped(mlp, tensors, [gate, up, down], precision, device),
        }
    }

    /// A gated MLP whose gate and up are kept within bounds, under the roles of gate, up and down.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn clamped(
        spec: &ClampedMlpSpec,
        tensors: &LayerTensors,
        [gate, up, down]: [TensorRole; 3],
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        let linear = |role| Linear::new(tensors, role, spec.bias, precision, device);
        let (limit, alpha) = (spec.limit as f32, spec.alpha as f32);
        let gate = Gate::Clamped { gate: linear(gate)?, limit, alpha };
        Ok(Self { gate, up: linear(up)?, norm: None, down: linear(down)? })
    }

    /// The same with most of the gate's values cut off.
    pub(crate) fn thinned(self, cutoff: f64) -> Self {
        let gate = match self.gate {
            Gate::Activated(activation, gate) => Gate::Thinned(activation, gate, cutoff),
            other => other,
        };
        Self { gate, ..self }
    }

    /// The same with a norm before the last projection.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn normed(self, norm: NormSpec, tensors: &LayerTensors, device: &Device<B>) -> Result<Self> {
        let norm = Norm::load(norm, tensors, TensorRole::MlpInnerNorm, device)?;
        Ok(Self { norm: Some(norm), ..self })
    }

    /// [tokens, hidden] -> [tokens, hidden].
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let inner = match &self.gate {
            Gate::None(activation) => B::nonlinearity(*activation, self.up.forward(x)),
            Gate::Xielu(xielu) => xielu.forward(self.up.forward(x)),
            Gate::Activated(activation, gate) => {
                let gate = gate.forward(x.clone());
                B::gated_nonlinearity(*activation, gate, self.up.forward(x))
            }
            Gate::Thinned(activation, gate, cutoff) => {
                let gate = thinned(gate.forward(x.clone()), *cutoff);
                B::gated_nonlinearity(*activation, gate, self.up.forward(x))
            }
            Gate::Clamped { gate, limit, alpha } => {
                let gate = gate.forward(x.clone());
                B::clamped_gate(gate, self.up.forward(x), *limit, *alpha)
            }
        };
        self.down.forward(match &self.norm {
            Some(norm) => norm.forward(inner),
            None => inner,
        })
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
