use serde::{Deserialize, Serialize};

use super::{Activation, NormSpec};

/// A vector per token and layer, made before the first layer and carried to its own (Gemma 3n, Gemma 4): for each
/// layer, (norm(project(x) / sqrt(hidden)) + sqrt(width) * row) / sqrt(2), where x is the embedding and row the part of
/// a second table's row that belongs to the layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerInputs {
    /// Rows of the second table. Tokens beyond take its first.
    pub vocab_size: usize,
    /// Layers that get one.
    pub layers: usize,
    /// Width of each.
    pub width: usize,
    /// Of the projection.
    pub norm: NormSpec,
}

impl LayerInputs {
    /// Width of the vectors of all layers together.
    pub fn total(&self) -> usize {
        self.layers.saturating_mul(self.width)
    }
}

/// How a layer uses its vector: x -> norm(up(act(down(x)) * vector)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInputSpec {
    /// Width of the vector.
    pub width: usize,
    /// The nonlinearity.
    pub activation: Activation,
}

/// Alternating updates (Baykal et al. 2023) with a learned augmented residual (Menghani et al. 2024), as in Gemma 3n:
/// the residual stream is several, of which a layer works on the first. Before the layer all streams are predicted from
/// all, p_i = s_i + sum_j c_ij s_j; after it they are corrected by what the layer changed, s_i = p_i + d_i (y - p_0);
/// the coefficients come from the stream, by a router. Within the layer, with n = norm(p_0):
///
/// z = (p_0 + norm(mixer(n)) + n + norm(right(left(n)))) / sqrt(2), y = z + norm(ffn(norm(z)))
///
/// and at its end all streams but the first get what the layer makes of its own input (see [`LayerInputSpec`]), given the
/// first, scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AltUpSpec {
    /// Streams.
    pub streams: usize,
    /// Is the first stream multiplied by a vector on its way to the layer's own input?
    pub scaled: bool,
    /// Between left and right.
    pub laurel_rank: usize,
    /// The layer's own input.
    pub input: LayerInputSpec,
}
