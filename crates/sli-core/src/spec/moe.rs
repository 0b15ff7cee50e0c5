use serde::{Deserialize, Serialize};

use super::{ClampedMlpSpec, MlpSpec, NormSpec};

/// A mixture of experts (Shazeer et al. 2017): each token goes through a few of many networks, chosen by a router,
/// and perhaps through some that all tokens share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoeSpec {
    /// Experts in the layer.
    pub num_experts: usize,
    /// How a token chooses.
    pub router: RouterSpec,
    /// Each expert.
    pub expert: ExpertSpec,
    /// What every token goes through besides.
    pub shared: Option<SharedExpertSpec>,
    /// Is a learned vector added to the sum?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bias: bool,
    /// What is narrower than the hidden state: the experts that are chosen see down(x), and up(sum) is returned of them
    /// (Nemotron 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentSpec>,
}

/// The narrow state that experts work on, and its two projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatentSpec {
    /// Its width.
    pub width: usize,
    /// Have the projections a bias?
    pub bias: bool,
}

/// The network of one expert.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpertSpec {
    /// down(act(gate(x)) * up(x)).
    Gated(MlpSpec),
    /// down(act(up(x))).
    Plain(MlpSpec),
    /// down(act(min(gate(x), limit)) * u) with u = up(x) within ±limit (DeepSeek-V4).
    Limited {
        /// Sizes.
        mlp: MlpSpec,
        /// The bound.
        limit: f64,
    },
    /// Gate and up within bounds.
    Clamped(ClampedMlpSpec),
}

impl ExpertSpec {
    /// Width between up and down.
    pub fn intermediate_size(&self) -> usize {
        match self {
            Self::Gated(mlp) | Self::Plain(mlp) | Self::Limited { mlp, .. } => mlp.intermediate_size,
            Self::Clamped(mlp) => mlp.intermediate_size,
        }
    }

    /// Have its projections a bias?
    pub fn bias(&self) -> bool {
        match self {
            Self::Gated(mlp) | Self::Plain(mlp) | Self::Limited { mlp, .. } => mlp.bias,
            Self::Clamped(mlp) => mlp.bias,
        }
    }

    /// Is there a gate besides up and down?
    pub fn has_gate(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }
}

/// A gated MLP (a plain or a limited one beside such experts) that every token goes through; several shared experts are one of
/// their widths' sum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedExpertSpec {
    /// Its sizes.
    pub mlp: MlpSpec,
    /// Is its result multiplied by sigmoid(w . x)?
    pub gated: bool,
    /// What its result is multiplied by.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub scale: f64,
}

/// How a token chooses its experts and weighs what they return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterSpec {
    /// Experts per token.
    pub top_k: usize,
    /// What the logits are a projection of.
    #[serde(default, skip_serializing_if = "RouterInput::is_of_experts")]
    pub input: RouterInput,
    /// Logits are bounded: cap * tanh(logit / cap).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f64>,
    /// From the router's logits to scores.
    pub scoring: Scoring,
    /// Has the router's projection a bias?
    pub bias: bool,
    /// Is a learned number per expert added to the scores, for the choice only (Wang et al. 2024)?
    pub correction: bool,
    /// Rows of the table that says which experts each token of the vocabulary goes to, where they are not chosen
    /// (DeepSeek-V4's first layers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<usize>,
    /// Are whole groups of experts chosen first?
    pub groups: Option<ExpertGroups>,
    /// Are the chosen scores divided by their sum plus this?
    pub normalize: Option<f64>,
    /// What the weights are multiplied by in the end.
    pub scale: f64,
    /// Is each expert's weight multiplied by a learned number?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub learned_scales: bool,
    /// Choices after the experts that return the token as it is (LongCat's "zero experts").
    pub identity_experts: usize,
    /// Choices after these that add nothing (ZAYA).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub null_experts: usize,
    /// The network that makes the logits, where it is not one matrix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<RouterNetwork>,
    /// What the weights multiply.
    pub weighs: Weighs,
    /// Tokens of a sample that an expert takes, the first that choose it; later ones do without (Fedus et al. 2021).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<usize>,
}

impl RouterSpec {
    /// The `top_k` best of a softmax over all experts, divided by their sum where `normalize` says so.
    pub fn softmax(top_k: usize, normalize: bool) -> Self {
        Self {
            top_k,
            input: RouterInput::Experts,
            softcap: None,
            scoring: Scoring::Softmax,
            bias: false,
            correction: false,
            table: None,
            groups: None,
            normalize: normalize.then_some(0.0),
            scale: 1.0,
            learned_scales: false,
            identity_experts: 0,
            null_experts: 0,
            network: None,
            weighs: Weighs::Output,
            capacity: None,
        }
    }

    /// Choices after the experts that have no network.
    pub fn idle_experts(&self) -> usize {
        self.identity_experts.saturating_add(self.null_experts)
    }
}

fn one() -> f64 {
    1.0
}

fn is_one(scale: &f64) -> bool {
    *scale == 1.0
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A router of three layers on a narrow state r = down(x): out(gelu(second(gelu(first(norm(r)))))) (ZAYA).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterNetwork {
    /// Width of the state.
    pub width: usize,
    /// Of the state.
    pub norm: NormSpec,
    /// Is the state of the layer before, times a learned vector, added to r?
    pub adds_previous: bool,
}

/// From a router's logits to scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// Softmax over all experts, then the best ones.
    Softmax,
    /// The best logits, then a softmax over them.
    SoftmaxOfChosen,
    /// Sigmoid of each logit.
    Sigmoid,
    /// sqrt(ln(1 + e^logit)) (DeepSeek-V4).
    SqrtSoftplus,
    /// One choice after another: each by the best logit that is left, with the softmax over those left whose distance
    /// to it, relative to the larger magnitude, is at most twice the jitter (Liu et al. 2023, at inference).
    Sparsemixer {
        /// The jitter of the training.
        jitter: f64,
    },
}

/// Experts side by side that are chosen together: first the best groups, then the best experts within these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertGroups {
    /// Groups, all of one size.
    pub count: usize,
    /// Groups that a token may choose from.
    pub chosen: usize,
    /// A group is as good as the sum of this many of its best scores.
    pub best_of: usize,
}

/// What a router's weights multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighs {
    /// What the expert returns.
    Output,
    /// What goes into the expert (Llama 4).
    Input,
}

/// What a router sees of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouterInput {
    /// What goes into the experts.
    #[default]
    Experts,
    /// The residual stream, divided by the root of its width after a norm of its own (Gemma 4).
    Stream {
        /// The norm.
        norm: NormSpec,
    },
}

impl RouterInput {
    /// Is it what goes into the experts?
    pub fn is_of_experts(&self) -> bool {
        *self == Self::Experts
    }
}
