use serde::{Deserialize, Serialize};

use super::{Activation, NormSpec};

/// From the final hidden state to logits over the vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadSpec {
    /// Number of logits per token.
    pub vocab_size: usize,
    /// What happens to the hidden state first (masked language models).
    pub transform: Option<HeadTransform>,
    /// Is a bias added to the logits?
    pub bias: bool,
    /// The hidden state is multiplied by this first.
    pub scale: Option<f64>,
    /// cap * tanh(logit / cap), after everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f64>,
    /// Is each row of the matrix brought to length one (Baichuan 2)?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unit_rows: bool,
}

impl HeadSpec {
    /// One matrix from hidden state to logits and nothing else.
    pub fn plain(vocab_size: usize) -> Self {
        Self { vocab_size, transform: None, bias: false, scale: None, softcap: None, unit_rows: false }
    }
}

/// Dense, activation, norm: the transform of masked language model heads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadTransform {
    /// Has the dense layer a bias?
    pub bias: bool,
    /// Width after the dense layer, where it is not that of the hidden state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// After the dense layer.
    pub activation: Activation,
    /// After the activation; `None` where a head tells originals from replacements (ELECTRA).
    pub norm: Option<NormSpec>,
}
