use serde::{Deserialize, Serialize};

use super::NormSpec;

/// Hyper-connections (Zhu et al. 2024) whose mixtures keep the streams' sum (Xie et al. 2026), as in DeepSeek-V4: the
/// residual stream is several, which start as copies of the embedding. Before a branch f they are added up to one,
/// z = sum_i a_i x_i; after it, x_k = b_k f(norm(z)) + sum_j c_jk x_j; after the last layer they are added up once more.
///
/// a = sigmoid(.) + eps, b = 2 sigmoid(.) and c come from one projection of all streams, normed together, times a learned
/// number plus learned ones. c is a softmax over k plus eps whose columns, and then rows and columns in turn, are divided
/// by their sums plus eps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HyperSpec {
    /// Streams.
    pub streams: usize,
    /// How often the columns of c are divided by their sums.
    pub iterations: usize,
    /// What keeps sums from vanishing.
    pub eps: f64,
    /// Of all streams together.
    pub norm: NormSpec,
}

impl HyperSpec {
    /// Values of a, b and c together.
    pub fn coefficients(&self) -> usize {
        (2 + self.streams) * self.streams
    }
}
