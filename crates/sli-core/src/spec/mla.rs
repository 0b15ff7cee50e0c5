use serde::{Deserialize, Serialize};

use super::{NormSpec, RopeSpec};

/// Multi-head latent attention (DeepSeek-AI 2024): keys and values of all heads are projections of one latent per
/// token, and one rotated key is shared by all heads.
///
/// Each head of queries and keys holds the rotated dimensions first, then the others, whatever the order in the
/// checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MlaSpec {
    /// Heads.
    pub num_heads: usize,
    /// Width of the queries' latent; `None` where queries are projected directly.
    pub query_rank: Option<usize>,
    /// Width of the latent of keys and values.
    pub latent_rank: usize,
    /// Dimensions of a head of queries and keys that are not rotated.
    pub content_dim: usize,
    /// Dimensions of a head of queries and keys that are.
    pub rotary_dim: usize,
    /// Width of a head of values.
    pub value_dim: usize,
    /// The scores are q . k times this.
    pub scale: f64,
    /// How the rotated dimensions are rotated; `None`: not at all.
    pub rope: Option<RopeSpec>,
    /// Of the latents.
    pub norm: NormSpec,
    /// What the queries' and the keys' latents are multiplied by after their norms.
    pub latent_scales: [f64; 2],
    /// Have the projections from the hidden state and back to it a bias?
    pub bias: bool,
    /// What chooses the keys that a query sees, of those before it.
    pub indexer: Option<IndexerSpec>,
}

impl MlaSpec {
    /// Width of a head of queries and keys.
    pub fn head_dim(&self) -> usize {
        self.rotary_dim + self.content_dim
    }
}

/// The lightning indexer of sparse attention (DeepSeek-AI 2025): a query sees the `top_k` keys with the largest
/// sum over heads of w_h relu(q_h . k).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexerSpec {
    /// Heads.
    pub num_heads: usize,
    /// Width of a head; the first `rotary_dim` dimensions are rotated as in the attention.
    pub head_dim: usize,
    /// Keys that a query sees.
    pub top_k: usize,
    /// Of the keys.
    pub norm: NormSpec,
}
