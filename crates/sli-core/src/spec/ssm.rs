use serde::{Deserialize, Serialize};

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
