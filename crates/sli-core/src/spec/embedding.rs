use serde::{Deserialize, Serialize};

use super::{HyperSpec, LayerInputs, NormSpec};

/// From token ids to the first hidden state: the token's row, what is added to it, and a norm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingSpec {
    /// Rows of the table.
    pub vocab_size: usize,
    /// What the token's row is multiplied by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// What is narrower than the hidden state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrow: Option<Narrow>,
    /// What is added for the position.
    pub positions: Option<Positions>,
    /// How many token types have a row that is added.
    pub token_types: Option<usize>,
    /// Is one further row added to all tokens (ERNIE's row of its first task)?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub task_row: bool,
    /// Is the sum moved and stretched by learned vectors, (x + bias) * weight?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stretched: bool,
    /// After the sum.
    pub norm: Option<NormSpec>,
    /// The vectors that are made for each layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_inputs: Option<LayerInputs>,
    /// The residual streams that are made, where they are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Streams>,
    /// Is the first hidden state carried along for layers that look at it again?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub carried: bool,
}

impl EmbeddingSpec {
    /// A table of tokens and nothing else.
    pub fn tokens(vocab_size: usize) -> Self {
        Self {
            vocab_size,
            scale: None,
            narrow: None,
            positions: None,
            token_types: None,
            task_row: false,
            stretched: false,
            norm: None,
            layer_inputs: None,
            streams: None,
            carried: false,
        }
    }
}

/// What of an embedding is narrower than the hidden state, and projected to its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Narrow {
    /// A token's row: projected before anything is added, and the final hidden state back to this width (OPT-350M).
    Tokens {
        /// The row's width.
        width: usize,
    },
    /// All that is added up and normed: projected at the end, with a bias (ALBERT).
    Sum {
        /// The sum's width.
        width: usize,
    },
}

impl EmbeddingSpec {
    /// Width of a token's row.
    pub fn token_width(&self, hidden: usize) -> usize {
        match self.narrow {
            Some(Narrow::Tokens { width } | Narrow::Sum { width }) => width,
            None => hidden,
        }
    }

    /// Width of what is added to a token's row, and of the norm.
    pub fn sum_width(&self, hidden: usize) -> usize {
        match self.narrow {
            Some(Narrow::Sum { width }) => width,
            _ => hidden,
        }
    }

    /// The width that the final hidden state is projected back to, where it is.
    pub fn final_projection(&self) -> Option<usize> {
        match self.narrow {
            Some(Narrow::Tokens { width }) => Some(width),
            _ => None,
        }
    }
}

/// How residual streams are made and, after the last layer, brought together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streams {
    /// Each but the first by a matrix, into and out of it; then their mean is taken (Gemma 3n).
    Projected {
        /// How many there are.
        count: usize,
    },
    /// All alike; then they are weighed and added.
    Copied(HyperSpec),
}

impl Streams {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Projected { count } => *count,
            Self::Copied(hyper) => hyper.streams,
        }
    }
}

/// What is added to a token's row for its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// The row of a table.
    Learned {
        /// Rows of the table.
        count: usize,
    },
    /// The sines of p * 10000^(-k / steps), for k up to half of the width, and then the cosines (Vaswani et al. 2017).
    Sinusoidal {
        /// p of a sample's first token.
        first: usize,
        /// As many as there are frequencies; one less where the last is 1/10000.
        steps: usize,
    },
}

impl Positions {
    /// Positions that there are, where they end.
    pub fn count(self) -> Option<usize> {
        match self {
            Self::Learned { count } => Some(count),
            Self::Sinusoidal { .. } => None,
        }
    }
}
