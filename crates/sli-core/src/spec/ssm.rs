use serde::{Deserialize, Serialize};

use super::{Activation, NormSpec};

/// The mixer of Mamba (Gu and Dao 2023): in, short convolution, selective scan, gate, out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mamba1Spec {
    /// Channels of the scan.
    pub inner_size: usize,
    /// Heads of channels side by side, each of which selects by its own channels (Zamba).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub num_heads: usize,
    /// State per channel.
    pub state_size: usize,
    /// Width of the causal convolution.
    pub conv_width: usize,
    /// After the convolution.
    pub activation: Activation,
    /// Rank of the step size's projection.
    pub dt_rank: usize,
    /// Of the step size while it is narrow, and of what writes and reads the state (Jamba, Falcon Mamba).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_norm: Option<NormSpec>,
    /// Has the convolution a bias?
    pub conv_bias: bool,
    /// Have the projections in and out a bias?
    pub projection_bias: bool,
}

fn one() -> usize {
    1
}

fn is_one(count: &usize) -> bool {
    *count == 1
}

/// The mixer of Mamba-2 (Dao and Gu 2024): in, short convolution, a scan by heads, gate and norm, out.
///
/// Each head has a state `[state_size, head_dim]` that fades as a whole: S <- exp(step * A) S + step * b x^T, and what
/// is read is S^T c + D x, with numbers A and D for each head. b and c are shared by the heads of a group, and the step
/// is softplus(projection of the input + bias), within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mamba2Spec {
    /// Heads.
    pub num_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Groups of heads that lie side by side.
    pub num_groups: usize,
    /// Rows of a head's state.
    pub state_size: usize,
    /// Width of the causal convolution.
    pub conv_width: usize,
    /// After the convolution.
    pub activation: Activation,
    /// Has the convolution a bias?
    pub conv_bias: bool,
    /// Has the projection in a bias?
    pub input_bias: bool,
    /// Has the projection out a bias?
    pub output_bias: bool,
    /// The smallest step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_step: Option<f64>,
    /// The largest step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_step: Option<f64>,
    /// Of what is read.
    pub norm: Option<GatedNormSpec>,
    /// What the parts of the projected input are multiplied by: gate, x, b, c and step (Falcon-H1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multipliers: Option<[f64; 5]>,
}

/// A norm of each group of heads, beside a gate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatedNormSpec {
    /// The norm, with a weight for each value of all groups.
    pub norm: NormSpec,
    /// Does it come before the gate? Else what is gated is normed.
    pub before_gate: bool,
}

impl Mamba2Spec {
    /// Values of all heads together.
    pub fn inner_size(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Channels of the convolution: x of all heads, b and c of all groups.
    pub fn conv_channels(&self) -> usize {
        self.inner_size() + 2 * self.num_groups * self.state_size
    }

    /// Rows of the projection in: the gate, the channels of the convolution, a step for each head.
    pub fn projected_size(&self) -> usize {
        self.inner_size() + self.conv_channels() + self.num_heads
    }
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
