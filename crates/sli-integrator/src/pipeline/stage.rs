//! The steps of a run, in the order in which they are made and committed.

use sli_core::{BlockSpec, Ffn, Generation, Mixer, ModelSpec, Place};

/// A step that every sample goes through before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Token ids to the first hidden state.
    Embedding { stack: usize },
    /// One layer.
    Layer { stack: usize, layer: usize },
    /// The final norm; after the last stack also the head.
    Final { stack: usize },
}

/// The stages of the first `stacks` stacks.
pub(crate) fn stages(spec: &ModelSpec, stacks: usize) -> Vec<Stage> {
    let mut stages = Vec::new();
    for (stack, stack_spec) in spec.stacks.iter().take(stacks).enumerate() {
        stages.push(Stage::Embedding { stack });
        stages.extend((0..stack_spec.layers.len()).map(|layer| Stage::Layer { stack, layer }));
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
            Self::Layer { stack, layer } => Place::Layer { stack, layer },
            Self::Final { stack } => Place::FinalNorm { stack },
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
            Self::Layer { stack, layer } => {
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
            Self::Layer { stack, layer } => block_kind(&spec.stacks[stack].layers[layer]),
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
    let mixer = match &block.mixer {
        Mixer::Attention(_) => "attention",
        Mixer::AttentionExperts(_) => "experts of attention",
        Mixer::Mla(_) => "latent attention",
        Mixer::DeltaNet(_) => "delta rule",
        Mixer::Mamba1(_) => "Mamba",
    };
    let cross = block.cross_attention.as_ref().map(|_| "cross attention");
    let ffn = block.ffn.as_ref().map(|ffn| match ffn {
        Ffn::Mlp(_) | Ffn::XieluMlp { .. } => "MLP",
        Ffn::GatedMlp(_) | Ffn::SparseGatedMlp(_) | Ffn::NormedGatedMlp(_) => "gated MLP",
        Ffn::Moe(_) => "experts",
    });
    [Some(mixer), cross, ffn].into_iter().flatten().collect::<Vec<_>>().join(" + ")
}
