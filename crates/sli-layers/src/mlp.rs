//! Multi-layer perceptrons, plain and gated.

use burn::tensor::{Tensor, activation};
use sli_core::{ClampedMlpSpec, ExpertSpec, MlpSpec, NormSpec, Result, TensorRole};
use sli_kernels::Activation;

use crate::backend::SliBackend;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;
use crate::xielu::Xielu;

/// down(norm(inner(x))), where what is inside depends on the gate, and few have a norm.
#[derive(Clone, Debug)]
pub struct Mlp<B: SliBackend> {
    gate: Gate<B>,
    up: Linear<B>,
    norm: Option<Norm<B>>,
    down: Linear<B>,
    /// What comes out is multiplied by this.
    scale: Option<f64>,
}

/// What becomes of u = up(x), value by value. Backends may run it together with the projections.
#[derive(Clone, Debug)]
pub enum Inner<B: SliBackend> {
    /// act(u).
    Activated(Activation),
    /// act(gate(x)) * u.
    Gated(Activation, Linear<B>),
    /// g * sigmoid(alpha g) * (u + 1), bounded.
    Clamped {
        /// The projection to g.
        gate: Linear<B>,
        /// The largest g, and the largest magnitude of u.
        limit: f32,
        /// How steep the sigmoid is.
        alpha: f32,
    },
}

/// What becomes of up(x).
#[derive(Clone, Debug)]
enum Gate<B: SliBackend> {
    /// Something that looks at each value by itself.
    Inner(Inner<B>),
    /// xielu(up(x)).
    Xielu(Xielu),
    /// act(t) * up(x), where of t = gate(x) only what exceeds its mean by so many standard deviations is left.
    Thinned(Activation, Linear<B>, f64),
    /// act(scale * gate(x)) * up(x).
    Scaled(Activation, Linear<B>, f64),
    /// act(g) * u, bounded.
    Limited(Activation, Linear<B>, f64),
}

impl<B: SliBackend> Inner<B> {
    /// [tokens, in] -> [tokens, inner].
    pub(crate) fn forward(&self, x: Tensor<B, 2>, up: &Linear<B>) -> Tensor<B, 2> {
        match self {
            Self::Activated(activation) => B::nonlinearity(*activation, up.forward(x)),
            Self::Gated(activation, gate) => {
                let gate = gate.forward(x.clone());
                B::gated_nonlinearity(*activation, gate, up.forward(x))
            }
            Self::Clamped { gate, limit, alpha } => {
                let (gate, up) = (gate.forward(x.clone()), up.forward(x));
                let (g, u) = (gate.clamp_max(*limit), up.clamp(-limit, *limit));
                g.clone() * activation::sigmoid(g * *alpha) * (u + 1.0)
            }
        }
    }
}

impl<B: SliBackend> Mlp<B> {
    /// An MLP without a gate, under the roles of up and down.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn plain(spec: &MlpSpec, loader: &Loader<B>, [up, down]: [TensorRole; 2]) -> Result<Self> {
        let linear = |role| Linear::new(loader, role, spec.bias);
        let gate = Gate::Inner(Inner::Activated(kernel_activation(spec.activation)));
        Ok(Self { gate, up: linear(up)?, norm: None, down: linear(down)?, scale: None })
    }

    /// The same with an activation whose slopes were learned.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn xielu(loader: &Loader<B>) -> Result<Self> {
        let linear = |role| Linear::new(loader, role, false);
        let (up, down) = (linear(TensorRole::MlpUp)?, linear(TensorRole::MlpDown)?);
        Ok(Self { gate: Gate::Xielu(Xielu::load(loader.tensors)?), up, norm: None, down, scale: None })
    }

    /// A gated MLP, under the roles of gate, up and down.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn gated(spec: &MlpSpec, loader: &Loader<B>, [gate, up, down]: [TensorRole; 3]) -> Result<Self> {
        let linear = |role| Linear::new(loader, role, spec.bias);
        let gate = Gate::Inner(Inner::Gated(kernel_activation(spec.activation), linear(gate)?));
        Ok(Self { gate, up: linear(up)?, norm: None, down: linear(down)?, scale: None })
    }

    /// An expert's network, under the roles of gate, up and down.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn expert(spec: &ExpertSpec, loader: &Loader<B>, [gate, up, down]: [TensorRole; 3]) -> Result<Self> {
        match spec {
            ExpertSpec::Gated(mlp) => Self::gated(mlp, loader, [gate, up, down]),
            ExpertSpec::Plain(mlp) => Self::plain(mlp, loader, [up, down]),
            ExpertSpec::Limited { mlp, limit } => {
                let linear = |role| Linear::new(loader, role, mlp.bias);
                let gate = Gate::Limited(kernel_activation(mlp.activation), linear(gate)?, *limit);
                Ok(Self { gate, up: linear(up)?, norm: None, down: linear(down)?, scale: None })
            }
            ExpertSpec::Clamped(mlp) => Self::clamped(mlp, loader, [gate, up, down]),
        }
    }

    /// A gated MLP whose gate and up are kept within bounds, under the roles of gate, up and down.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn clamped(
        spec: &ClampedMlpSpec,
        loader: &Loader<B>,
        [gate, up, down]: [TensorRole; 3],
    ) -> Result<Self> {
        let linear = |role| Linear::new(loader, role, spec.bias);
        let (limit, alpha) = (spec.limit as f32, spec.alpha as f32);
        let inner = Inner::Clamped { gate: linear(gate)?, limit, alpha };
        Ok(Self { gate: Gate::Inner(inner), up: linear(up)?, norm: None, down: linear(down)?, scale: None })
    }

    /// The same with a bias after the last projection.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn biased(self, loader: &Loader<B>) -> Result<Self> {
        Ok(Self { down: Linear::new(loader, TensorRole::MlpDown, true)?, ..self })
    }

    /// The same with most of the gate's values cut off.
    pub(crate) fn thinned(self, cutoff: f64) -> Self {
        let gate = match self.gate {
            Gate::Inner(Inner::Gated(activation, gate)) => Gate::Thinned(activation, gate, cutoff),
            other => other,
        };
        Self { gate, ..self }
    }

    /// The same with the gate and what comes out multiplied by these.
    pub(crate) fn scaled(self, gate_scale: f64, scale: f64) -> Self {
        let gate = match self.gate {
            Gate::Inner(Inner::Gated(activation, gate)) => Gate::Scaled(activation, gate, gate_scale),
            other => other,
        };
        Self { gate, scale: Some(scale), ..self }
    }

    /// The same with low-rank additions to gate and up.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn adapted(self, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{GateAdapter, MlpAdapterDown, UpAdapter};
        let gate = match self.gate {
            Gate::Inner(Inner::Gated(activation, gate)) => {
                let gate = gate.adapted(loader, [MlpAdapterDown, GateAdapter])?;
                Gate::Inner(Inner::Gated(activation, gate))
            }
            other => other,
        };
        let up = self.up.adapted(loader, [MlpAdapterDown, UpAdapter])?;
        Ok(Self { gate, up, ..self })
    }

    /// The same with a norm before the last projection.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn normed(self, norm: NormSpec, loader: &Loader<B>) -> Result<Self> {
        let norm = Norm::load(norm, loader, TensorRole::MlpInnerNorm)?;
        Ok(Self { norm: Some(norm), ..self })
    }

    /// [tokens, hidden] -> [tokens, hidden].
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let inner = match &self.gate {
            Gate::Inner(inner) if self.norm.is_none() && self.up.is_exact() => {
                return B::perceptron(x, inner, &self.up, &self.down);
            }
            Gate::Inner(inner) => inner.forward(x, &self.up),
            Gate::Xielu(xielu) => xielu.forward(self.up.forward(x)),
            Gate::Thinned(activation, gate, cutoff) => {
                let gate = thinned(gate.forward(x.clone()), *cutoff);
                B::gated_nonlinearity(*activation, gate, self.up.forward(x))
            }
            Gate::Scaled(activation, gate, scale) => {
                let gate = gate.forward(x.clone()) * *scale;
                B::gated_nonlinearity(*activation, gate, self.up.forward(x))
            }
            Gate::Limited(activation, gate, limit) => {
                let gate = gate.forward(x.clone()).clamp_max(*limit);
                B::gated_nonlinearity(*activation, gate, self.up.forward(x).clamp(-limit, *limit))
            }
        };
        let y = self.down.forward(match &self.norm {
            Some(norm) => norm.forward(inner),
            None => inner,
        });
        match self.scale {
            Some(scale) => y * scale,
            None => y,
        }
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
