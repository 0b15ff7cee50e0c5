use serde::{Deserialize, Serialize};

use super::{DisentangledSpec, NormSpec, RopeSpec};

/// Softmax attention. Keys and values may have fewer heads than queries (GQA, MQA); each is shared by
/// `num_heads / num_kv_heads` query heads that lie side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionSpec {
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Width of a query or key head.
    pub head_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// The scores are q . k times this.
    pub scale: f64,
    /// cap * tanh(score / cap), after the scale and before the mask.
    pub softcap: Option<f64>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// How positions come in.
    pub position: Position,
    /// Which projections have a bias.
    pub bias: ProjectionBias,
    /// Norms on queries and keys.
    pub qk_norm: Option<QkNorm>,
    /// Where keys and values come from.
    #[serde(default, skip_serializing_if = "KeyValues::is_projected")]
    pub key_values: KeyValues,
    /// Has each head a learned logit that takes part in the softmax's denominator only (gpt-oss)?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sinks: bool,
    /// Queries, keys and values are kept within plus and minus this, before the rotation and after any
    /// norm that comes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Over all heads' outputs together, before the output projection (BitNet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_norm: Option<NormSpec>,
    /// What the heads' outputs are multiplied by before the output projection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<AttentionGate>,
    /// How queries grow with their position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
}

/// Each value of all heads' outputs is multiplied by the sigmoid of a projection of the layer's input (Qiu et al.
/// 2025).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionGate {
    /// Has that projection a bias?
    pub bias: bool,
}

/// Where keys and values come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValues {
    /// From a projection each.
    #[default]
    Projected,
    /// The values are normed, head by head (Gemma 3n, Gemma 4).
    NormedValues {
        /// The norm.
        norm: NormSpec,
        /// Are the values what the keys are before their norm and rotation? Then they have no projection.
        from_keys: bool,
        /// Where keys and values are kept for later layers.
        kept: Option<u32>,
    },
    /// From a projection each, and the values are rotated as the keys are (RoFormer).
    RotatedValues,
    /// From a projection each, and the values are multiplied by this (MiMo-V2-Flash).
    ScaledValues {
        /// The multiplier.
        scale: f64,
    },
    /// Those that an earlier layer kept.
    Reused {
        /// Where.
        slot: u32,
    },
}

impl KeyValues {
    /// Does the layer have projections of keys and of values and nothing else?
    pub fn is_projected(&self) -> bool {
        *self == Self::Projected
    }

    /// Does the layer project its keys?
    pub fn has_keys(&self) -> bool {
        !matches!(self, Self::Reused { .. })
    }

    /// Does the layer project its values?
    pub fn has_values(&self) -> bool {
        !matches!(self, Self::Reused { .. } | Self::NormedValues { from_keys: true, .. })
    }
}

/// How queries grow with their position, so that attention over many keys stays sharp.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Temperature {
    /// By ln(i + 1) / ln(original_length) from the position on where that exceeds one (Su 2021; Qwen).
    LogLength {
        /// The length of samples in training.
        original_length: usize,
    },
    /// By 1 + slope * ln(1 + floor((i + 1) / interval)) (Nakanishi 2025; Llama 4).
    LogSteps {
        /// Positions after which the factor grows.
        interval: f64,
        /// How much it grows.
        slope: f64,
    },
    /// Not the query but its scores once they are bounded, by ln(i) / ln(original_length) from the position after that
    /// length on (Grok-2).
    LogScores {
        /// The length.
        original_length: usize,
    },
}

impl Temperature {
    /// What the query at position `i`, or its scores, are multiplied by.
    pub fn factor(self, i: usize) -> f64 {
        match self {
            Self::LogLength { original_length } => {
                (((i + 1) as f64).ln() / (original_length as f64).ln()).max(1.0)
            }
            Self::LogScores { original_length } => match i > original_length {
                true => (i as f64).ln() / (original_length as f64).ln(),
                false => 1.0,
            },
            Self::LogSteps { interval, slope } => 1.0 + slope * (((i + 1) as f64) / interval).floor().ln_1p(),
        }
    }
}

/// Which projections of an attention have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names say it
pub struct ProjectionBias {
    pub query: bool,
    pub key: bool,
    pub value: bool,
    pub output: bool,
}

impl ProjectionBias {
    /// On all four or on none.
    pub fn all(present: bool) -> Self {
        Self { query: present, key: present, value: present, output: present }
    }

    /// On query, key and value but not on the output.
    pub fn qkv(present: bool) -> Self {
        Self { output: false, ..Self::all(present) }
    }
}

/// Which keys the query at position i sees, by their position j.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// j <= i.
    Causal,
    /// i - window < j <= i.
    Sliding {
        /// Keys seen, the query's own included.
        window: usize,
    },
    /// j <= i within chunks of positions: i / size == j / size.
    Chunked {
        /// Positions of a chunk.
        size: usize,
    },
    /// j <= i in blocks of positions: those of the query's own and of the `local` - 1 before it, and of each block b
    /// before them in which b + h * `shift` + 1 is a multiple of `stride`, where h is the head (Abdin et al. 2024,
    /// "blocksparse").
    Strided {
        /// Positions of a block.
        block: usize,
        /// Blocks that are seen up to the query's own.
        local: usize,
        /// Of how many blocks before them one is seen.
        stride: usize,
        /// Blocks by which the pattern of each head lies before that of the head before it.
        shift: usize,
    },
    /// All of its sample.
    Bidirectional,
    /// |i - j| <= reach.
    BidirectionalSliding {
        /// Keys seen on either side.
        reach: usize,
    },
    /// The prompt as a whole, and beyond it j <= i.
    Prompt(Prompt),
    /// j <= i, perhaps within a window, with exp(a softplus(w . v_j)) added to all scores of key j, where v_j are the
    /// values of all its heads, and a and w are learned for each key head. Of more than `most` keys those with the
    /// largest addend are seen (Doge).
    Dynamic {
        /// Keys that are seen at most.
        most: usize,
        /// Keys among which they are found, the query's own included; all before it where there is no window.
        window: Option<usize>,
    },
}

/// Where the prompt of a sample ends, in models that fill a blank in it with an autoregressive answer (GLM, Du et
/// al. 2021). Every sample has such tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The token that stands for the blank at the end of a text; where a sample has none, it has the next.
    pub final_blank: u32,
    /// The token that stands for a blank within a text.
    pub inner_blank: u32,
    /// The token that the answer starts with, the first after the prompt.
    pub answer: u32,
}

/// A sample's prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptSpan {
    /// Tokens of the prompt.
    pub length: usize,
    /// Where the blank stands.
    pub blank: usize,
}

impl Prompt {
    /// Finds the prompt of a sample.
    ///
    /// # Errors
    /// A phrase that names the token that the sample lacks.
    pub fn find(&self, sample: &[u32]) -> Result<PromptSpan, String> {
        let first = |token| sample.iter().position(|id| *id == token);
        let Self { final_blank, inner_blank, answer } = *self;
        let blank = first(final_blank).or_else(|| first(inner_blank));
        let blank = blank.ok_or_else(|| {
            format!("it has no blank to fill: neither token {final_blank} nor token {inner_blank}")
        })?;
        let length = first(answer).ok_or_else(|| format!("its prompt has no end: no token {answer}"))?;
        Ok(PromptSpan { length, blank })
    }
}

/// How positions come into attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// Not here (positions may be in the embedding, or nowhere).
    None,
    /// Queries and keys are rotated (Su et al. 2021).
    Rope(RopeSpec),
    /// Queries and keys are rotated by a stored table: in the row of a position the sines of all pairs of a head's
    /// dimensions, and then their cosines (RoFormer).
    RotationTable {
        /// Rows of the table.
        positions: usize,
    },
    /// Two rotations at once (GLM). In either half of the pairs, the first half of a head's dimensions turns by where
    /// a token stands in the text (for tokens of the answer: where the blank stands), the second by how far it is
    /// into the answer, which counts from one. Checkpoints that keep the halves apart are permuted at load time.
    RopeInBlocks {
        /// Of each of the two; `rotary_dim` is half a head.
        rope: RopeSpec,
        /// How answers are told from prompts.
        prompt: Prompt,
    },
    /// A bias in proportion to the distance, with a slope per head (Press et al. 2021).
    Alibi(Alibi),
    /// A learned bias per head and bucket of the distance j - i (Raffel et al. 2020, T5).
    RelativeBias {
        /// Rows of the table.
        num_buckets: usize,
        /// From this distance on, all share the last bucket.
        max_distance: usize,
        /// Do keys after the query have buckets of their own?
        bidirectional: bool,
    },
    /// Scores depend on the distance and on the query, and on the distance and the key (He et al. 2021, DeBERTa).
    Disentangled(DisentangledSpec),
}

/// Whose slopes, and how they are added.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alibi {
    /// slope * (j - i) is added to the scaled scores. Head h of n has the slope 2^(-8 h / n); where n is no power of
    /// two, those of the next smaller one come first and then every other one of its double (BLOOM, Baichuan-13B).
    Standard,
    /// -slope * |i - j| with the same slopes, for attention that sees both sides (JinaBERT).
    Symmetric,
    /// slope * (j - i) with slopes 2^(-max_bias h / n); where n is no power of two, every other slope of the next larger one
    /// comes first, beginning with the second (MPT).
    Interleaved {
        /// The exponent of the last slope.
        max_bias: f64,
    },
    /// Standard slopes, rounded to bf16 as are their products with j, which are added before the scores are scaled
    /// (Falcon).
    Rounded,
}

/// Norms on queries and keys before they meet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// Over each head, with one weight `[head_dim]` for all heads, before the rotation.
    PerHead(NormSpec),
    /// The same after the rotation.
    PerHeadRotated(NormSpec),
    /// Over each head, with a weight `[head_dim]` of its own, before the rotation.
    EachHead(NormSpec),
    /// Over the whole projection, before the rotation.
    Whole(NormSpec),
}

impl QkNorm {
    /// The norm, wherever it stands.
    pub fn norm(&self) -> NormSpec {
        let (Self::PerHead(norm) | Self::PerHeadRotated(norm) | Self::EachHead(norm) | Self::Whole(norm)) =
            *self;
        norm
    }
}
