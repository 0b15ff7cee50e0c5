use serde::{Deserialize, Serialize};

use super::AttentionSpec;

/// Softmax attention over queries and keys that a convolution mixes (Figliolia et al. 2025, "CCA", as in ZAYA).
///
/// Queries and keys lie side by side and go through two causal convolutions, of each channel by itself and then of all
/// channels of a head. To what comes out is added what went in, of each query and key the mean with those it meets:
/// (q + k) / 2 for queries, the mean of these for a key. Queries and keys are brought to the length sqrt(head_dim), keys
/// also times a learned number per key head, and then rotated. The first half of all values comes from the token, the
/// second from the one before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvolvedAttentionSpec {
    /// The attention; `value_dim` is `head_dim`.
    pub attention: AttentionSpec,
    /// Tokens that the convolution of channels sees.
    pub channel_width: usize,
    /// Tokens that the convolution of heads sees.
    pub head_width: usize,
}

impl ConvolvedAttentionSpec {
    /// Heads of queries and keys together.
    pub fn heads(&self) -> usize {
        self.attention.num_heads + self.attention.num_kv_heads
    }
}
