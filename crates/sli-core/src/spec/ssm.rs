use serde::{Deserialize, Serialize};

use super::Activation;

/// The mixer of Mamba (Gu and Dao 2023): in, short convolution, selective scan, gate, out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mamba1Spec {
    /// Channels of the scan.
    pub inner_size: usize,
    /// State per channel.
    pub state_size: usize,
    /// Width of the causal convolution.
    pub conv_width: usize,
    /// Rank of the step size's projection.
    pub dt_rank: usize,
    /// Has the convolution a bias?
    pub conv_bias: bool,
    /// Have the projections in and out a bias?
    pub projection_bias: bool,
}

/// The recurrent block of Griffin (De et al. 2024, section 2.3): out(h * act(gate(x))), where h is a real-gated linear
/// recurrent unit over u, the short convolution of in(x). Each channel has a state that fades and takes in its input,
/// both by a gate that sees the channels of its own block:
///
/// h_t = a_t h_(t-1) + sqrt(1 - a_t^2) (i_t u_t), with a_t = exp(-8 softplus(d) r_t), where i_t and r_t are the gates,
/// sigmoids of projections of u_t, and d is learned. A sample's first token is taken in whole, h_1 = i_1 u_1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RgLruSpec {
    /// Channels.
    pub width: usize,
    /// Blocks of channels whose gates see one another.
    pub num_blocks: usize,
    /// Tokens that the convolution sees.
    pub conv_width: usize,
    /// Of the branch beside the recurrence.
    pub activation: Activation,
}
