use serde::{Deserialize, Serialize};

use super::{LayerInputs, NormSpec};

/// From token ids to the first hidden state: the token's row, what is added to it, and a norm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingSpec {
    /// Rows of the table.
    pub vocab_size: usize,
    /// What the token's row is multiplied by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// The learned positions that are added.
    pub positions: Option<LearnedPositions>,
    /// How many token types have a row that is added.
    pub token_types: Option<usize>,
    /// After the sum.
    pub norm: Option<NormSpec>,
    /// The vectors that are made for each layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_inputs: Option<LayerInputs>,
    /// The residual streams that are made, where they are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<usize>,
}

impl EmbeddingSpec {
    /// A table of tokens and nothing else.
    pub fn tokens(vocab_size: usize) -> Self {
        Self {
            vocab_size,
            scale: None,
            positions: None,
            token_types: None,
            norm: None,
            layer_inputs: None,
            streams: None,
        }
    }
}

/// A table with a row per position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedPositions {
    /// Rows of the table.
    pub count: usize,
}
