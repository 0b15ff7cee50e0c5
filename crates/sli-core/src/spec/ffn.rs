use serde::{Deserialize, Serialize};

use super::{ChannelMixSpec, MoeSpec, NormSpec};

/// What transforms each token by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one per layer: the unused bytes are few
pub enum Ffn {
    /// down(act(up(x))).
    Mlp(MlpSpec),
    /// down(act(gate(x)) * up(x)) (Shazeer 2020).
    GatedMlp(MlpSpec),
    /// The same with a bias after the last projection, and none before it (JinaBERT).
    BiasedGatedMlp {
        /// Width between up and down.
        intermediate_size: usize,
        /// The nonlinearity.
        activation: Activation,
    },
    /// A gated MLP with multipliers.
    ScaledGatedMlp(ScaledMlpSpec),
    /// The same with most of the gate's values cut off.
    SparseGatedMlp(SparseMlpSpec),
    /// The same with a norm before the last projection.
    NormedGatedMlp(NormedMlpSpec),
    /// Gate and up within bounds.
    ClampedGatedMlp(ClampedMlpSpec),
    /// down(f(up(x))), where f has learned a, a' and stored b, e: f(x) = b x + a x^2 for positive x, else
    /// b x + a' (exp(min(x, e)) - 1 - x) (Huang and Schlag 2024, "xIELU").
    XieluMlp {
        /// Width between up and down.
        intermediate_size: usize,
    },
    /// An MLP over tokens that are mixed with those before them.
    ChannelMix(ChannelMixSpec),
    /// Each token goes through a few of many gated MLPs.
    Moe(MoeSpec),
}

/// Sizes of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MlpSpec {
    /// Width between up and down.
    pub intermediate_size: usize,
    /// The nonlinearity.
    pub activation: Activation,
    /// Have all its projections a bias?
    pub bias: bool,
}

/// scale * down(act(gate_scale * gate(x)) * up(x)) (Falcon-H1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaledMlpSpec {
    /// Sizes.
    pub mlp: MlpSpec,
    /// What the gate is multiplied by.
    pub gate_scale: f64,
    /// What comes out is multiplied by this.
    pub scale: f64,
}

/// A gated MLP in which of the gate's values only what exceeds mean + cutoff * standard deviation of its row remains:
/// down(act(max(gate(x) - threshold, 0)) * up(x)) (Gemma 3n).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SparseMlpSpec {
    /// Sizes.
    pub mlp: MlpSpec,
    /// Standard deviations above the mean.
    pub cutoff: f64,
}

/// down(norm(act(gate(x)) * up(x))) (BitNet).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormedMlpSpec {
    /// Sizes.
    pub mlp: MlpSpec,
    /// Over the width between up and down.
    pub norm: NormSpec,
}

/// down(g * sigmoid(alpha g) * (u + 1)) with g = min(gate(x), limit) and u = up(x) within plus and minus limit (gpt-oss;
/// Phi-3-small, "gegelu").
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClampedMlpSpec {
    /// Width between up and down.
    pub intermediate_size: usize,
    /// The bound.
    pub limit: f64,
    /// How steep the sigmoid is.
    pub alpha: f64,
    /// Have all its projections a bias?
    pub bias: bool,
}

/// The nonlinearities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x.
    Identity,
    /// max(x, 0).
    Relu,
    /// max(x, 0)^2.
    ReluSquared,
    /// x * Phi(x), with the error function.
    Gelu,
    /// The same with a tanh in place of the error function (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// x * sigmoid(1.702 x).
    QuickGelu,
    /// x * sigmoid(x).
    Silu,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// tanh(x).
    Tanh,
    /// ln(1 + e^x).
    Softplus,
}

impl Activation {
    /// The activation that Hugging Face configs call `name`.
    pub fn from_hf_name(name: &str) -> Option<Self> {
        Some(match name {
            "linear" | "identity" => Self::Identity,
            "relu" => Self::Relu,
            "relu2" => Self::ReluSquared,
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_accurate" => Self::GeluTanh,
            "quick_gelu" => Self::QuickGelu,
            "silu" | "swish" => Self::Silu,
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            _ => return None,
        })
    }
}
