use serde::{Deserialize, Serialize};

use super::{AttentionSpec, NormSpec};

/// Differential attention (Ye et al. 2024), in which noise that two maps of attention share is subtracted.
///
/// Key heads, and with them query heads, are two halves. Each query head looks at the values of its key head's place in
/// either half, side by side: 2 `value_dim` of them. What head h of the second half saw is then taken from what head h
/// of the first half saw, y = first - lambda * second, where lambda = exp(q1 . k1) - exp(q2 . k2) + `lambda_init` with
/// four learned vectors. Each difference is normed and multiplied by 1 - `lambda_init`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DifferentialSpec {
    /// The projections, and the maps of attention.
    pub attention: AttentionSpec,
    /// What the learned part of lambda is added to.
    pub lambda_init: f64,
    /// Of each difference.
    pub norm: NormSpec,
}
