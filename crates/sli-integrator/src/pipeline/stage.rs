//! The steps of a run, in the order in which they are made and committed.

use sli_core::{BlockSpec, Ffn, Generation, Group, LayerPart, Mixer, ModelSpec, Place};

/// A step that every sample goes through before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Token ids to the first hidden state.
    Embedding { stack: usize },
    /// One layer, or a part of it.
    Layer { stack: usize, layer: usize, part: LayerPart },
    /// The final norm; after the last stack also the head.
    Final { stack: usize },
}

/// The stages of the first `stacks` stacks; layers that can be run in two parts are, if so wanted.
pub(crate) fn stages(spec: &ModelSpec, stacks: usize, in_parts: bool) -> Vec<Stage> {
    let parts = |block: &BlockSpec| match in_parts && block.has_two_parts() {
        true => &[LayerPart::Mixers, LayerPart::FeedForward][..],
        false => &[LayerPart::Whole],
    };
    let mut stages = Vec::new();
    for (stack, stack_spec) in spec.stacks.iter().take(stacks).enumerate() {
        stages.push(Stage::Embedding { stack });
        for (layer, block) in stack_spec.layers.iter().enumerate() {
            stages.extend(parts(block).iter().map(|part| Stage::Layer { stack, layer, part: *part }));
        }
        stages.push(Stage::Final { stack });
    }
    stages
}

impl Stage {
    /// The stack it belongs to.
    pub(crate) fn stack(self) -> usize {
        match self {
            Self::Embedding { stack } | Self::Layer { stack, .. } | Self::Final { stack } => stack,
        }
    }

    /// Where its weights lie.
    pub(crate) fn place(self) -> Place {
        match self {
            Self::Embedding { stack } => Place::Embedding { stack },
            Self::Layer { stack, layer, .. } => Place::Layer { stack, layer },
            Self::Final { stack } => Place::FinalNorm { stack },
        }
    }

    /// The groups of tensors that are read ahead for it, where it has them: not experts, which are read once they are
    /// chosen, and not tables of which few rows are needed.
    pub(crate) fn groups(self) -> &'static [Group] {
        match self {
            Self::Embedding { .. } => &[],
            Self::Layer { part, .. } => part.groups(),
            Self::Final { .. } => &[Group::Dense],
        }
    }

    /// Is what it leaves the state after an embedding, a layer or a stack, and not after a part of a layer?
    pub(crate) fn ends_layer(self) -> bool {
        match self {
            Self::Layer { part, .. } => part.has_feed_forward(),
            Self::Embedding { .. } | Self::Final { .. } => true,
        }
    }

    /// The name of its folder and files: `embedding`, `layer_0003`, `decoder_final`.
    pub(crate) fn name(self, spec: &ModelSpec) -> String {
        let prefix = match (spec.is_encoder_decoder(), self.stack()) {
            (false, _) => "",
            (true, 0) => "encoder_",
            (true, _) => "decoder_",
        };
        match self {
            Self::Embedding { .. } => format!("{prefix}embedding"),
            Self::Layer { layer, .. } => format!("{prefix}layer_{layer:04}"),
            Self::Final { .. } => format!("{prefix}final"),
        }
    }

    /// For people: `layer 4 of 32`, `decoder layer 1 of 6`, `embedding`.
    pub(crate) fn title(self, spec: &ModelSpec) -> String {
        let prefix = match (spec.is_encoder_decoder(), self.stack()) {
            (false, _) => "",
            (true, 0) => "encoder ",
            (true, _) => "decoder ",
        };
        match self {
            Self::Embedding { .. } => format!("{prefix}embedding"),
            Self::Layer { stack, layer, .. } => {
                format!("{prefix}layer {} of {}", layer + 1, spec.stacks[stack].layers.len())
            }
            Self::Final { stack } if stack + 1 == spec.stacks.len() && spec.head.is_some() => {
                format!("{prefix}final norm and head")
            }
            Self::Final { .. } => format!("{prefix}final norm"),
        }
    }

    /// What it is made of: `attention + gated MLP`.
    pub(crate) fn kind(self, spec: &ModelSpec) -> String {
        match self {
            Self::Embedding { .. } => "embedding".into(),
            Self::Layer { stack, layer, .. } => block_kind(&spec.stacks[stack].layers[layer]),
            Self::Final { .. } => "final norm".into(),
        }
    }

    /// Where stage number `index` writes its chunks; `None` for the last stack's final norm, after which nothing is
    /// left to do.
    pub(crate) fn written(self, index: usize, stacks: usize) -> Option<Generation> {
        match self {
            Self::Final { stack } if stack + 1 == stacks => None,
            Self::Final { .. } => Some(Generation::EncoderOutput),
            _ => Some(Generation::written_by(index)),
        }
    }
}

fn block_kind(block: &BlockSpec) -> String {
    let mixer = Some(match &block.mixer {
        Mixer::None => "",
        Mixer::Attention(_) => "attention",
        Mixer::Differential(_) => "differential attention",
        Mixer::AttentionExperts(_) => "experts of attention",
        Mixer::CompressedAttention(_) => "attention to summaries",
        Mixer::ConvolvedAttention(_) => "convolved attention",
        Mixer::DecayedAttention(_) => "decayed attention",
        Mixer::Mla(_) => "latent attention",
        Mixer::DeltaNet(_) => "delta rule",
        Mixer::Mamba1(_) => "Mamba",
        Mixer::Mamba2(_) => "Mamba-2",
        Mixer::AttentionAndScan(_) => "attention and Mamba-2",
        Mixer::InformedScan(_) => "attention, then Mamba",
        Mixer::Wkv4(_) | Mixer::Wkv5(_) | Mixer::Wkv7(_) => "time mixing",
        Mixer::ShortConv(_) => "short convolution",
        Mixer::RgLru(_) => "RG-LRU",
    });
    let mixer = mixer.filter(|mixer| !mixer.is_empty());
    let cross = block.cross_attention.as_ref().map(|_| "cross attention");
    let ffn = block.ffn.as_ref().map(|ffn| match ffn {
        Ffn::Mlp(_) | Ffn::XieluMlp { .. } => "MLP",
        Ffn::GatedMlp(_)
        | Ffn::BiasedGatedMlp { .. }
        | Ffn::ScaledGatedMlp(_)
        | Ffn::SparseGatedMlp(_)
        | Ffn::NormedGatedMlp(_)
        | Ffn::ClampedGatedMlp(_) => "gated MLP",
        Ffn::ChannelMix(_) => "channel mixing",
        Ffn::Moe(_) => "experts",
    });
    [mixer, cross, ffn].into_iter().flatten().collect::<Vec<_>>().join(" + ")
}
