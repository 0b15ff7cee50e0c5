use serde::{Deserialize, Serialize};

/// A normalisation over the last dimension. Always computed in f32.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormSpec {
    /// Which one.
    pub kind: NormKind,
    /// Added under the root.
    pub eps: f64,
}

/// The kinds of norms. An RMS norm whose stored weight is an offset from one is made plain at load time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// x / rms(x) * weight (Zhang and Sennrich 2019).
    Rms,
    /// x / rms(x).
    RmsUnweighted,
    /// (x - mean) / std * weight + bias (Ba et al. 2016).
    Layer,
    /// (x - mean) / std * weight.
    LayerUnbiased,
    /// (x - mean) / std.
    LayerUnweighted,
}

impl NormSpec {
    /// An RMS norm.
    pub fn rms(eps: f64) -> Self {
        Self { kind: NormKind::Rms, eps }
    }

    /// A layer norm with weight and bias.
    pub fn layer(eps: f64) -> Self {
        Self { kind: NormKind::Layer, eps }
    }

    /// Has it a weight?
    pub fn has_weight(&self) -> bool {
        !matches!(self.kind, NormKind::RmsUnweighted | NormKind::LayerUnweighted)
    }

    /// Has it a bias?
    pub fn has_bias(&self) -> bool {
        self.kind == NormKind::Layer
    }

    /// Is the mean taken away?
    pub fn is_centred(&self) -> bool {
        !matches!(self.kind, NormKind::Rms | NormKind::RmsUnweighted)
    }
}
