use serde::{Deserialize, Serialize};

/// A gated short convolution (LFM2): out(c * convolution(b * x)), with b, c and x from one projection, as wide as the
/// hidden state each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortConvSpec {
    /// Width of the causal convolution.
    pub width: usize,
    /// Have the convolution and the projections a bias?
    pub bias: bool,
}
