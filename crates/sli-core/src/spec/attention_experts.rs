use serde::{Deserialize, Serialize};

use super::{AttentionSpec, RouterSpec};

/// A mixture of attention heads (Zhang et al. 2022): experts that each have a projection of queries and one back to
/// the hidden state, over keys and values that all experts share. A token looks back once for each expert it chooses;
/// what comes out is weighed and added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionExpertsSpec {
    /// The attention of one expert: its queries, and the keys and values of all. Its output bias is added once, to the
    /// sum.
    pub attention: AttentionSpec,
    /// Experts in the layer.
    pub num_experts: usize,
    /// How a token chooses.
    pub router: RouterSpec,
}
