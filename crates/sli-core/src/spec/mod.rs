//! What a model is: sum types that say which mathematics each layer does, free of names and files.
//!
//! Different mathematics is a variant with its own struct, never one more optional field on everything. What a
//! checkpoint calls its tensors, and in which layout it stores them, is the business of [`crate::weight_map`].

mod altup;
mod attention;
mod attention_experts;
mod compressed_attention;
mod convolved_attention;
mod decayed_attention;
mod delta;
mod differential;
mod disentangled;
mod embedding;
mod ffn;
mod head;
mod hyper;
mod joint;
mod linear;
mod mla;
mod moe;
mod norm;
mod residual;
mod rope;
mod short_conv;
mod ssm;
mod wkv;

use serde::{Deserialize, Serialize};

use crate::role::Group;

pub use altup::{AltUpSpec, LayerInputSpec, LayerInputs};
pub use attention::{
    Alibi, AttentionGate, AttentionSpec, KeyValues, Mask, Position as PositionSpec, ProjectionBias, Prompt,
    PromptSpan, QkNorm, Temperature,
};
pub use attention_experts::AttentionExpertsSpec;
pub use compressed_attention::{CompressedAttentionSpec, Summaries, SummaryIndexer};
pub use convolved_attention::ConvolvedAttentionSpec;
pub use decayed_attention::DecayedAttentionSpec;
pub use delta::{DeltaNetSpec, ReadGate, StateDecay};
pub use differential::DifferentialSpec;
pub use disentangled::{CentredConvolution, DisentangledSpec, PositionProjections};
pub use embedding::{EmbeddingSpec, Narrow, Positions, Streams};
pub use ffn::{Activation, ClampedMlpSpec, Ffn, MlpSpec, NormedMlpSpec, ScaledMlpSpec, SparseMlpSpec};
pub use head::{HeadSpec, HeadTransform};
pub use hyper::HyperSpec;
pub use joint::{AdapterSpec, AttentionAndScanSpec, InformedScanSpec};
pub use linear::LinearInputs;
pub use mla::{IndexerSpec, MlaSpec};
pub use moe::{
    ExpertGroups, ExpertSpec, LatentSpec, MoeSpec, RouterInput, RouterNetwork, RouterSpec, Scoring,
    SharedExpertSpec, Weighs,
};
pub use norm::{NormKind, NormSpec};
pub use residual::{Residual, Shares};
pub use rope::{RopeScaling, RopeSpec};
pub use short_conv::ShortConvSpec;
pub use ssm::{GatedNormSpec, Mamba1Spec, Mamba2Spec, RgLruSpec};
pub use wkv::{ChannelMixSpec, DynamicMixSpec, MixShare, Wkv4Spec, Wkv5Spec, Wkv7Spec};

/// The twelve families of the taxonomy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // the names say it
pub enum Family {
    Llama,
    #[serde(rename = "GPT")]
    Gpt,
    Qwen,
    #[serde(rename = "MoE")]
    Moe,
    Encoder,
    T5,
    Mamba,
    Gemma,
    #[serde(rename = "ChatGLM")]
    ChatGlm,
    Phi,
    #[serde(rename = "BLOOM")]
    Bloom,
    #[serde(rename = "OPT")]
    Opt,
}

impl Family {
    /// All families, in the order of the taxonomy.
    pub const ALL: [Self; 12] = [
        Self::Llama,
        Self::Gpt,
        Self::Qwen,
        Self::Moe,
        Self::Encoder,
        Self::T5,
        Self::Mamba,
        Self::Gemma,
        Self::ChatGlm,
        Self::Phi,
        Self::Bloom,
        Self::Opt,
    ];

    /// The name as people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Gpt => "GPT",
            Self::Qwen => "Qwen",
            Self::Moe => "MoE",
            Self::Encoder => "Encoder",
            Self::T5 => "T5",
            Self::Mamba => "Mamba",
            Self::Gemma => "Gemma",
            Self::ChatGlm => "ChatGLM",
            Self::Phi => "Phi",
            Self::Bloom => "BLOOM",
            Self::Opt => "OPT",
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A whole model: its stacks in the order in which they run, and its head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// The registry's name of the architecture; for people, never to decide by.
    pub architecture: String,
    /// Which of the twelve families it belongs to.
    pub family: Family,
    /// One stack; or an encoder and then the decoder that looks at its output.
    pub stacks: Vec<StackSpec>,
    /// From the last stack's final hidden state to logits; `None` for bare encoders.
    pub head: Option<HeadSpec>,
    /// The longest sample that the model can take, where positions end.
    pub max_length: Option<usize>,
    /// The token a decoder starts with, in encoder-decoders.
    pub decoder_start: Option<u32>,
    /// How the inputs of the linear layers in its blocks are rounded.
    #[serde(default, skip_serializing_if = "LinearInputs::is_exact")]
    pub linear_inputs: LinearInputs,
}

impl ModelSpec {
    /// Is there an encoder whose output a decoder looks at?
    pub fn is_encoder_decoder(&self) -> bool {
        self.stacks.len() > 1
    }

    /// Layers of all stacks together.
    pub fn num_layers(&self) -> usize {
        self.stacks.iter().map(|stack| stack.layers.len()).sum()
    }

    /// How prompts are told from answers, in models whose attention depends on it.
    pub fn prompt(&self) -> Option<Prompt> {
        self.stacks.iter().flat_map(|stack| &stack.layers).find_map(|block| match &block.mixer {
            Mixer::Attention(AttentionSpec { mask: Mask::Prompt(prompt), .. }) => Some(*prompt),
            _ => None,
        })
    }

    /// Do the tokens of the last stack only see those before them, so that a score of each token given the ones
    /// before it means something?
    pub fn is_causal(&self) -> bool {
        self.stacks.last().is_some_and(|stack| stack.kind == StackKind::Decoder)
    }
}

/// Does a stack read forwards only?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StackKind {
    /// Every token sees every token.
    Encoder,
    /// A token sees those before it.
    Decoder,
}

/// A sequence of layers over one hidden state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StackSpec {
    /// Encoder or decoder.
    pub kind: StackKind,
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// From token ids to the first hidden state.
    pub embedding: EmbeddingSpec,
    /// The layers, in order.
    pub layers: Vec<BlockSpec>,
    /// After the last layer.
    pub final_norm: Option<NormSpec>,
}

impl StackSpec {
    /// Width of the final hidden state.
    pub fn final_width(&self) -> usize {
        self.embedding.final_projection().unwrap_or(self.hidden_size)
    }

    /// Rows of the smallest table that positions are looked up in, where there is one.
    pub fn position_rows(&self) -> Option<usize> {
        let rotated = self.layers.iter().filter_map(|block| match &block.mixer {
            Mixer::Attention(AttentionSpec {
                position: PositionSpec::RotationTable { positions }, ..
            }) => Some(*positions),
            _ => None,
        });
        self.embedding.positions.and_then(Positions::count).into_iter().chain(rotated).min()
    }

    /// Values per token that cross layers, at most.
    pub fn state_width(&self) -> usize {
        self.hidden_size.saturating_add(self.carried_width())
    }

    /// Values per token that cross layers besides the hidden state, at most.
    pub fn carried_width(&self) -> usize {
        let streams = self.embedding.streams.as_ref().map_or(0, |streams| streams.count().saturating_sub(1));
        // How much of a branch each stream gets is kept beside them.
        let shares = match &self.embedding.streams {
            Some(Streams::Copied(hyper)) => hyper.streams,
            _ => 0,
        };
        let inputs = self.embedding.layer_inputs.map_or(0, |inputs| inputs.total());
        let kept = self.layers.iter().filter_map(|block| match &block.mixer {
            Mixer::Attention(attention) => match attention.key_values {
                KeyValues::NormedValues { kept: Some(_), .. } => {
                    Some(attention.num_kv_heads * (attention.head_dim + attention.value_dim))
                }
                _ => None,
            },
            _ => None,
        });
        let of_routers = self.layers.iter().filter_map(|block| match &block.ffn {
            Some(Ffn::Moe(moe)) => moe.router.network.map(|network| network.width),
            _ => None,
        });
        let first_values = self.layers.iter().filter_map(|block| match &block.mixer {
            Mixer::Wkv7(spec) => Some(spec.width()),
            _ => None,
        });
        let first_values = first_values.max().unwrap_or(0);
        let embedding = if self.embedding.carried { self.hidden_size } else { 0 };
        let kept = kept
            .sum::<usize>()
            .saturating_add(embedding)
            .saturating_add(first_values)
            .saturating_add(of_routers.max().unwrap_or(0))
            .saturating_add(shares);
        streams.saturating_mul(self.hidden_size).saturating_add(inputs).saturating_add(kept)
    }
}

/// One layer: a mixer of tokens, perhaps a look at the encoder, perhaps a feed-forward network, and how they are
/// joined to the residual stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockSpec {
    /// What moves information between tokens.
    pub mixer: Mixer,
    /// Attention over the encoder's output.
    pub cross_attention: Option<AttentionSpec>,
    /// What transforms each token by itself; `None` where the mixer is the whole layer.
    pub ffn: Option<Ffn>,
    /// How the branches are added to the hidden state.
    pub residual: Residual,
    /// The norm of each branch; where it stands is said by `residual`.
    pub norm: NormSpec,
}

impl BlockSpec {
    /// Can the feed-forward network be run by itself, after all else? It can where it sees nothing but what the branches
    /// before it left, and every token goes through all of it.
    pub fn has_two_parts(&self) -> bool {
        let in_turn = !matches!(
            self.residual,
            Residual::Parallel { .. }
                | Residual::DenseBetween(_)
                | Residual::AltUp(_)
                | Residual::Shortcut(_)
                | Residual::Hyper(_)
                | Residual::ConvolvedPostNorm(_)
        );
        in_turn
            && self.mixer != Mixer::None
            && self.ffn.as_ref().is_some_and(|ffn| !matches!(ffn, Ffn::Moe(_)))
    }
}

/// What of a layer runs in one go. In two goes, only one of the two parts has to be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerPart {
    /// All of it.
    Whole,
    /// The mixer and the look at the encoder.
    Mixers,
    /// The feed-forward network, and what ends the layer.
    FeedForward,
}

impl LayerPart {
    /// Is the mixer in it?
    pub fn has_mixers(self) -> bool {
        self != Self::FeedForward
    }

    /// Is the feed-forward network in it, and with it the end of the layer?
    pub fn has_feed_forward(self) -> bool {
        self != Self::Mixers
    }

    /// The groups of tensors that it takes, experts apart.
    pub fn groups(self) -> &'static [Group] {
        match self {
            Self::Whole => &[Group::Dense, Group::FeedForward],
            Self::Mixers => &[Group::Dense],
            Self::FeedForward => &[Group::FeedForward],
        }
    }
}

/// What moves information between tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one per layer: the unused bytes are few
pub enum Mixer {
    /// Nothing: the feed-forward network is the whole layer (Nemotron-H).
    None,
    /// Softmax attention, with any number of key heads.
    Attention(AttentionSpec),
    /// Attention that is the difference of two softmax attentions.
    Differential(DifferentialSpec),
    /// Softmax attention by experts of which each token chooses some.
    AttentionExperts(AttentionExpertsSpec),
    /// Softmax attention over a window and summaries of what is further back.
    CompressedAttention(CompressedAttentionSpec),
    /// Softmax attention over convolved queries and keys.
    ConvolvedAttention(ConvolvedAttentionSpec),
    /// Linear attention that forgets at a fixed rate.
    DecayedAttention(DecayedAttentionSpec),
    /// Attention whose keys and values come from one narrow latent per token.
    Mla(MlaSpec),
    /// Linear attention whose state the gated delta rule writes (Yang et al. 2024).
    DeltaNet(DeltaNetSpec),
    /// The selective scan of Mamba (Gu and Dao 2023).
    Mamba1(Mamba1Spec),
    /// The scan by heads of Mamba-2 (Dao and Gu 2024).
    Mamba2(Mamba2Spec),
    /// Attention and a scan side by side.
    AttentionAndScan(AttentionAndScanSpec),
    /// A scan that also sees what a block of attention made of the stream and the embedding.
    InformedScan(InformedScanSpec),
    /// The weighted mean of RWKV-4 (Peng et al. 2023).
    Wkv4(Wkv4Spec),
    /// The states of RWKV-5 and RWKV-6 (Peng et al. 2024).
    Wkv5(Wkv5Spec),
    /// The states of RWKV-7 (Peng et al. 2025).
    Wkv7(Wkv7Spec),
    /// A gated short convolution.
    ShortConv(ShortConvSpec),
    /// The gated linear recurrence of Griffin (De et al. 2024).
    RgLru(RgLruSpec),
}
