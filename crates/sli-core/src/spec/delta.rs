use serde::{Deserialize, Serialize};

use super::{Activation, NormSpec};

/// Linear attention with a gated delta rule (Yang et al. 2024, Kimi Team 2025).
///
/// Queries, keys and values go through a short causal convolution and a SiLU; queries and keys have length one. Each
/// value head has a state S `[key_dim, value_dim]`, which each token fades and then corrects towards its own value:
/// S <- decay * S, S <- S + write * k (v - S^T k)^T. What is read, S^T q / sqrt(key_dim), is normed head by head and
/// gated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeltaNetSpec {
    /// Heads of queries and of keys; each serves `num_heads / num_key_heads` value heads that lie side by side.
    pub num_key_heads: usize,
    /// Heads of values.
    pub num_heads: usize,
    /// Width of a head of queries or keys.
    pub key_dim: usize,
    /// Width of a head of values.
    pub value_dim: usize,
    /// Tokens that the convolutions see.
    pub conv_width: usize,
    /// How the state fades.
    pub decay: StateDecay,
    /// A token writes with this times a sigmoid: 2 lets what was stored change its sign.
    pub write_scale: f64,
    /// Of what is read, head by head.
    pub norm: NormSpec,
    /// What the normed heads are multiplied by.
    pub gate: ReadGate,
}

/// How the state fades from token to token: by exp(-exp(A) softplus(projection of the input + bias)), with a number A
/// for each head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateDecay {
    /// Each head as a whole.
    PerHead,
    /// Each row of a head's state by itself (Kimi Delta Attention).
    PerChannel {
        /// Width between the two matrices of the projection.
        rank: usize,
    },
}

/// A nonlinearity of a projection of the input, with a value for each of the heads' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadGate {
    /// The nonlinearity.
    pub activation: Activation,
    /// Width between the two matrices of the projection; `None`: it is one matrix.
    pub rank: Option<usize>,
}

impl DeltaNetSpec {
    /// Values of all query heads together, and of all key heads.
    pub fn key_width(&self) -> usize {
        self.num_key_heads * self.key_dim
    }

    /// Values of all value heads together.
    pub fn value_width(&self) -> usize {
        self.num_heads * self.value_dim
    }

    /// Factors by which a token fades the states of all heads.
    pub fn num_decays(&self) -> usize {
        match self.decay {
            StateDecay::PerHead => self.num_heads,
            StateDecay::PerChannel { .. } => self.num_heads * self.key_dim,
        }
    }
}
