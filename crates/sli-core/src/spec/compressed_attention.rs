use serde::{Deserialize, Serialize};

use super::{NormSpec, RopeSpec};

/// Softmax attention over the tokens of a window and, further back, over summaries of several tokens each (DeepSeek-AI
/// 2026, DeepSeek-V4).
///
/// One head of keys, which are also the values, serves all heads of queries. Queries come from a latent and are normed
/// head by head. What is mixed is turned back by where the query stands, so that only distances matter, and goes through
/// a matrix for each group of heads and then through one for all. Each head has a learned logit that takes part in the
/// softmax's denominator only.
///
/// Each head holds the rotated dimensions first, then the others, whatever the order in the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompressedAttentionSpec {
    /// Heads of queries.
    pub num_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the queries' latent.
    pub query_rank: usize,
    /// Of queries, keys and summaries, which stand where their first token stands.
    pub rope: RopeSpec,
    /// Tokens seen as they are, the query's own included.
    pub window: usize,
    /// Of the latent, of keys and of summaries; queries are normed alike, without a weight.
    pub norm: NormSpec,
    /// Groups of heads that have a matrix each.
    pub output_groups: usize,
    /// What each of these makes of its heads.
    pub output_rank: usize,
    /// What is seen of tokens further back.
    pub summaries: Option<Summaries>,
}

/// How runs of `rate` tokens are summed up: by a softmax over tokens, for each channel, of a projection plus a learned
/// number per place; the sum so weighed is normed and rotated. A query sees the summaries of runs that end at or before
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Summaries {
    /// Each run by itself; all summaries are seen.
    Apart {
        /// Tokens of a run.
        rate: usize,
    },
    /// Each run with the one before it, of which another projection is taken; a query sees those that an indexer chooses.
    Overlapping {
        /// Tokens of a run.
        rate: usize,
        /// What chooses.
        indexer: SummaryIndexer,
    },
}

/// The lightning indexer over summaries of its own: a query sees those with the largest sum over heads of
/// w_h relu(q_h . k).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryIndexer {
    /// Heads.
    pub num_heads: usize,
    /// Width of a head, of which as many dimensions are rotated as in the attention.
    pub head_dim: usize,
    /// Summaries that a query sees.
    pub top_k: usize,
}

impl Summaries {
    /// Tokens of a run.
    pub fn rate(&self) -> usize {
        match self {
            Self::Apart { rate } | Self::Overlapping { rate, .. } => *rate,
        }
    }

    /// What chooses among the summaries.
    pub fn indexer(&self) -> Option<&SummaryIndexer> {
        match self {
            Self::Apart { .. } => None,
            Self::Overlapping { indexer, .. } => Some(indexer),
        }
    }

    /// Channels of the projections of a summary of this width.
    pub fn channels(&self, width: usize) -> usize {
        match self {
            Self::Apart { .. } => width,
            Self::Overlapping { .. } => 2 * width,
        }
    }
}
