use serde::{Deserialize, Serialize};

use super::{Activation, NormSpec};

/// Linear attention with a fixed decay for each head (Qin et al. 2024, "lightning attention").
///
/// Each head has a state S `[head_dim, head_dim]`: S <- e^-rate S + k v^T, and S^T q is read. Queries, keys and values go
/// through a nonlinearity first. What all heads read is normed together and multiplied by a sigmoid of a projection of
/// the input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecayedAttentionSpec {
    /// Heads.
    pub num_heads: usize,
    /// Width of a head of queries, keys or values.
    pub head_dim: usize,
    /// Of queries, keys and values.
    pub activation: Activation,
    /// The rate of head h of n, counted from one, is this times 2^(-8 h / n).
    pub rate: f64,
    /// Of what is read.
    pub norm: NormSpec,
}

impl DecayedAttentionSpec {
    /// Values of all heads together.
    pub fn width(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// How fast each head forgets.
    pub fn rates(&self) -> impl Iterator<Item = f64> {
        let (rate, heads) = (self.rate, self.num_heads as f64);
        (1..=self.num_heads).map(move |head| rate * (-8.0 * head as f64 / heads).exp2())
    }
}
