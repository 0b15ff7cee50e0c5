//! What moves information between tokens, whichever it is.

use burn::tensor::Tensor;
use sli_core::{Mixer, Result};

use crate::attention::AttentionLayer;
use crate::attention_experts::AttentionExpertsLayer;
use crate::backend::SliBackend;
use crate::carried::Carried;
use crate::compressed_attention::CompressedAttentionLayer;
use crate::context::ChunkContext;
use crate::convolved_attention::ConvolvedAttentionLayer;
use crate::decayed_attention::DecayedAttentionLayer;
use crate::delta::DeltaNetLayer;
use crate::differential::DifferentialLayer;
use crate::joint::{AttentionAndScan, InformedScan};
use crate::loader::Loader;
use crate::mamba::MambaLayer;
use crate::mamba2::Mamba2Layer;
use crate::mla::MlaLayer;
use crate::rg_lru::RgLruLayer;
use crate::short_conv::ShortConvLayer;
use crate::wkv::{Wkv4Layer, Wkv5Layer};
use crate::wkv7::Wkv7Layer;

/// A mixer with its weights.
#[derive(Clone, Debug)]
pub(crate) enum MixerLayer<B: SliBackend> {
    Attention(Box<AttentionLayer<B>>),
    Differential(Box<DifferentialLayer<B>>),
    AttentionExperts(Box<AttentionExpertsLayer<B>>),
    CompressedAttention(Box<CompressedAttentionLayer<B>>),
    ConvolvedAttention(Box<ConvolvedAttentionLayer<B>>),
    DecayedAttention(Box<DecayedAttentionLayer<B>>),
    Mla(Box<MlaLayer<B>>),
    DeltaNet(Box<DeltaNetLayer<B>>),
    Mamba1(Box<MambaLayer<B>>),
    Mamba2(Box<Mamba2Layer<B>>),
    AttentionAndScan(Box<AttentionAndScan<B>>),
    InformedScan(Box<InformedScan<B>>),
    Wkv4(Box<Wkv4Layer<B>>),
    Wkv5(Box<Wkv5Layer<B>>),
    Wkv7(Box<Wkv7Layer<B>>),
    ShortConv(Box<ShortConvLayer<B>>),
    RgLru(Box<RgLruLayer<B>>),
}

impl<B: SliBackend> MixerLayer<B> {
    /// Takes the tensors of the mixer that `spec` describes, if there is one.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &Mixer, loader: &Loader<B>) -> Result<Option<Self>> {
        Ok(Some(match spec {
            Mixer::None => return Ok(None),
            Mixer::Attention(attention) => Self::Attention(Box::new(AttentionLayer::new(attention, loader)?)),
            Mixer::Differential(differential) => {
                Self::Differential(Box::new(DifferentialLayer::new(differential, loader)?))
            }
            Mixer::AttentionExperts(experts) => {
                Self::AttentionExperts(Box::new(AttentionExpertsLayer::new(experts, loader)?))
            }
            Mixer::CompressedAttention(compressed) => {
                Self::CompressedAttention(Box::new(CompressedAttentionLayer::new(compressed, loader)?))
            }
            Mixer::ConvolvedAttention(convolved) => {
                Self::ConvolvedAttention(Box::new(ConvolvedAttentionLayer::new(convolved, loader)?))
            }
            Mixer::DecayedAttention(decayed) => {
                Self::DecayedAttention(Box::new(DecayedAttentionLayer::new(decayed, loader)?))
            }
            Mixer::Mla(mla) => Self::Mla(Box::new(MlaLayer::new(mla, loader)?)),
            Mixer::DeltaNet(delta) => Self::DeltaNet(Box::new(DeltaNetLayer::new(delta, loader)?)),
            Mixer::Mamba1(mamba) => Self::Mamba1(Box::new(MambaLayer::new(mamba, loader)?)),
            Mixer::Mamba2(mamba) => Self::Mamba2(Box::new(Mamba2Layer::new(mamba, loader)?)),
            Mixer::AttentionAndScan(both) => {
                Self::AttentionAndScan(Box::new(AttentionAndScan::new(both, loader)?))
            }
            Mixer::InformedScan(informed) => {
                Self::InformedScan(Box::new(InformedScan::new(informed, loader)?))
            }
            Mixer::Wkv4(wkv) => Self::Wkv4(Box::new(Wkv4Layer::new(wkv, loader)?)),
            Mixer::Wkv5(wkv) => Self::Wkv5(Box::new(Wkv5Layer::new(wkv, loader)?)),
            Mixer::Wkv7(wkv) => Self::Wkv7(Box::new(Wkv7Layer::new(wkv, loader)?)),
            Mixer::ShortConv(conv) => Self::ShortConv(Box::new(ShortConvLayer::new(conv, loader)?)),
            Mixer::RgLru(lru) => Self::RgLru(Box::new(RgLruLayer::new(lru, loader)?)),
        }))
    }

    /// [tokens, hidden] -> [tokens, hidden].
    pub(crate) fn forward(
        &self,
        input: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> Tensor<B, 2> {
        match self {
            Self::Attention(attention) => attention.forward(input, carried, context),
            Self::Differential(differential) => differential.forward(input, context),
            Self::AttentionExperts(experts) => experts.forward(input, context),
            Self::CompressedAttention(compressed) => compressed.forward(input, context),
            Self::ConvolvedAttention(convolved) => convolved.forward(input, context),
            Self::DecayedAttention(decayed) => decayed.forward(input, context),
            Self::Mla(mla) => mla.forward(input, context),
            Self::DeltaNet(delta) => delta.forward(input, context),
            Self::Mamba1(mamba) => mamba.forward(input, context),
            Self::Mamba2(mamba) => mamba.forward(input, context),
            Self::AttentionAndScan(both) => both.forward(input, carried, context),
            Self::InformedScan(informed) => informed.forward(input, carried, context),
            Self::Wkv4(wkv) => wkv.forward(input, context),
            Self::Wkv5(wkv) => wkv.forward(input, context),
            Self::Wkv7(wkv) => wkv.forward(input, carried, context),
            Self::ShortConv(conv) => conv.forward(input, context),
            Self::RgLru(lru) => lru.forward(input, context),
        }
    }
}
