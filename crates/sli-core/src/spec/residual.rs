use serde::{Deserialize, Serialize};

use super::{AltUpSpec, CentredConvolution, HyperSpec, LayerInputSpec, MlpSpec};

/// Where the norms stand, and what is added to what. f is a branch: the mixer, the cross attention or the feed-forward
/// network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residual {
    /// x + f(norm(x)), for each branch in turn.
    PreNorm,
    /// x + mixer(x), then x + ffn(norm(x)): the norm of the embedding serves as the mixer's (the first layer of
    /// ModernBERT).
    PreNormFfn,
    /// x + scale * f(norm(x)), for each branch in turn (Granite, MiniCPM).
    ScaledPreNorm {
        /// What each branch is multiplied by.
        scale: f64,
    },
    /// y + branch * ffn(norm'(y)) with y = s + branch * mixer(norm(s)), where s is a multiple of x or a norm of it (RWKV).
    Rescaled {
        /// What x is multiplied by; `None`: it is normed.
        stream: Option<f64>,
        /// What each branch is multiplied by.
        branch: f64,
    },
    /// w * x + f(norm(x)), for each branch in turn, with a learned vector w (Doge).
    WeightedPreNorm,
    /// norm(x + f(x)), for each branch in turn.
    PostNorm,
    /// As [`Residual::PostNorm`], and of what comes out, y, norm(y + act(convolution(x))), where x is what went into the
    /// layer (the first one of DeBERTa-v2).
    ConvolvedPostNorm(CentredConvolution),
    /// past * n + branch * f(n) with n = norm(x), for each branch in turn (GLM-130B, ChatGLM-6B, MiniMax-Text).
    FromNorm {
        /// Of the mixer.
        mixer: Shares,
        /// Of the feed-forward network.
        ffn: Shares,
    },
    /// x + norm(f(x)), for each branch in turn (OLMo 2).
    BranchNorm,
    /// x + norm2(f(norm1(x))), for each branch in turn (Gemma 2).
    Sandwich,
    /// x + mixer(norm(x)) + ffn(norm'(x)): both branches see the layer's input (GPT-J, GPT-NeoX).
    Parallel {
        /// Do the branches share one norm?
        shared_norm: bool,
    },
    /// y + ffn(norm''(x)) with y = z + mlp(norm'(z)) and z = x + mixer(norm(x)): the feed-forward network, here experts,
    /// sees what the layer sees, a dense gated MLP what the mixer left (Arctic).
    DenseBetween(MlpSpec),
    /// The mixer and a dense gated MLP twice over, each with weights of its own, as in [`Residual::PreNorm`]; the
    /// feed-forward network, here experts, sees what the first MLP sees, and is added at the very end (LongCat-Flash).
    Shortcut(MlpSpec),
    /// s * (x + b) + s' * (f(norm(x)) + b'), for each branch in turn, which has learned vectors s, b, s' and b' of its own
    /// (ZAYA).
    StretchedPreNorm,
    /// As [`Residual::Sandwich`], then x + the layer's own input where it has one, then the whole times a stored
    /// number. Where there is a dense gated MLP beside the experts, each has norms of its own between those of the
    /// branch: x + norm2(norm3(mlp(norm4(x))) + norm5(experts(norm1(x)))) (Gemma 4).
    ScaledSandwich {
        /// The layer's own input.
        input: Option<LayerInputSpec>,
        /// The MLP beside the experts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        beside: Option<MlpSpec>,
    },
    /// Several streams, each branch between two norms (Gemma 3n).
    AltUp(AltUpSpec),
    /// Several streams, which each branch sees as one (DeepSeek-V4).
    Hyper(HyperSpec),
}

/// What goes past a branch and what comes out of it are multiplied by these.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Shares {
    pub past: f64,
    pub branch: f64,
}

impl Residual {
    /// scale * n + f(n), for both branches.
    pub fn from_norm(scale: f64) -> Self {
        let shares = Shares { past: scale, branch: 1.0 };
        Self::FromNorm { mixer: shares, ffn: shares }
    }

    /// Is each branch's input normed, by [`crate::TensorRole::MixerNorm`] and its like?
    pub fn norms_input(self) -> bool {
        !self.norms_sum() && self != Self::BranchNorm
    }

    /// Is the layer's input normed before anything else, by [`crate::TensorRole::StreamNorm`]?
    pub fn norms_stream(self) -> bool {
        matches!(self, Self::Rescaled { stream: None, .. })
    }

    /// Is the mixer's input among what is normed? In few residuals it is not.
    pub fn norms_mixer(self) -> bool {
        self != Self::PreNormFfn
    }

    /// Is the sum of stream and branch normed, by [`crate::TensorRole::MixerNorm`] and its like?
    pub fn norms_sum(self) -> bool {
        matches!(self, Self::PostNorm | Self::ConvolvedPostNorm(_))
    }

    /// Is each branch's output normed before it is added, by [`crate::TensorRole::MixerOutNorm`] and its like?
    pub fn norms_output(self) -> bool {
        matches!(self, Self::BranchNorm | Self::Sandwich | Self::ScaledSandwich { .. } | Self::AltUp(_))
    }

    /// Does the feed-forward network see the norm of the mixer?
    pub fn shares_norm(self) -> bool {
        matches!(self, Self::Parallel { shared_norm: true })
    }
}
