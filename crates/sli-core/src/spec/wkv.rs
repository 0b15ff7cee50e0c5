use serde::{Deserialize, Serialize};

use super::NormSpec;

/// The time mixing of RWKV-4 (Peng et al. 2023): out(sigmoid(r) * wkv), where r, k and v are projections of the token
/// mixed with the one before it, channel by channel.
///
/// wkv is a mean of the values so far, each channel by itself: a value weighs e^k, less by e^-decay for each token since,
/// and the token's own e^(k + bonus).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wkv4Spec {
    /// Channels.
    pub width: usize,
}

/// The time mixing of RWKV-5 and RWKV-6 (Peng et al. 2024, "Eagle" and "Finch"): out(norm(read) * silu(g)), where r, k, v
/// and g are projections of the token mixed with the one before it, channel by channel.
///
/// Each head has a state S `[head_dim, head_dim]`, of which r reads before the token k v^T is added:
/// S^T r + (r . bonus k) v, then S <- diag(decay) S + k v^T.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wkv5Spec {
    /// Heads.
    pub num_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Of what each head reads.
    pub norm: NormSpec,
    /// How a token decides about its mixture and its decay; `None` where both are learned once and for all (RWKV-5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<DynamicMixSpec>,
}

/// Ranks of what a token adds to the learned vectors (RWKV-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicMixSpec {
    /// Of the mixture with the token before, for each of decay, k, v, r and g.
    pub mix_rank: usize,
    /// Of the decay.
    pub decay_rank: usize,
}

/// The time mixing of RWKV-7 (Peng et al. 2025, "Goose").
///
/// Each head has a state S `[head_dim, head_dim]`: S <- diag(decay) S - a n (S^T n)^T + k v^T, then S^T r is read. n is a key
/// of length one, a how much of what lies there is erased. Values are mixed with those of the first layer. All of these
/// are made of the token mixed with the one before it: out((norm(read) + (r . bonus k) v) * g).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wkv7Spec {
    /// Heads.
    pub num_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Of what each head reads.
    pub norm: NormSpec,
    /// Between the two matrices that make the decay.
    pub decay_rank: usize,
    /// Between those that say how much is erased.
    pub erase_rank: usize,
    /// Between those of the gate.
    pub gate_rank: usize,
    /// Between those that say how much of the first layer's values is taken; `None` in the first layer.
    pub value_rank: Option<usize>,
}

impl Wkv5Spec {
    /// Channels of all heads.
    pub fn width(&self) -> usize {
        self.num_heads * self.head_dim
    }
}

impl Wkv7Spec {
    /// Channels of all heads.
    pub fn width(&self) -> usize {
        self.num_heads * self.head_dim
    }
}

/// RWKV's MLP: down(relu(up(x))^2), where x is the token mixed with the one before it, channel by channel, and perhaps
/// times the sigmoid of a projection of another such mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelMixSpec {
    /// Width between up and down.
    pub intermediate_size: usize,
    /// Is it multiplied by a sigmoid?
    pub gated: bool,
    /// What the stored vectors are.
    pub share: MixShare,
}

/// What a vector of shares, by which a token is mixed with the one before it, says of each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixShare {
    /// How much of the token there is.
    Own,
    /// How much of the one before there is.
    Previous,
}
