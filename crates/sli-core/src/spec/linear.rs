use serde::{Deserialize, Serialize};

/// How what enters the linear layers of a model is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinearInputs {
    /// Not at all.
    #[default]
    Exact,
    /// Token by token to whole numbers of 8 bits, its largest magnitude to 127 (BitNet b1.58; Ma et al. 2024).
    EightBits,
}

impl LinearInputs {
    /// Do they stay as they are?
    pub fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}
