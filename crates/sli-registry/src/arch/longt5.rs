//! LongT5 (Guo et al. 2021) with local attention: T5 v1.1 whose encoder sees so many tokens on either side.

use sli_core::{Family, Mask, Mixer, ModelSpec, Result, StackKind, TensorRole, WeightMap};

use super::t5;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "longt5",
    family: Family::T5,
    model_types: &["longt5"],
    architectures: &["LongT5ForConditionalGeneration", "LongT5Model", "LongT5EncoderModel"],
    known_models: &[KnownModel::new(
        "LongT5-local-large",
        "google/long-t5-local-large",
        "the encoder sees 127 tokens on either side",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Of transient-global attention only.
    config.ignore(&["global_block_size"]);
    const KIND: &str = "encoder_attention_type";
    if config.str_or(KIND, "local")? != "local" {
        return Err(config.invalid(KIND, "local: transient-global attention is not supported"));
    }
    let reach = config.usize_or("local_radius", 127)?;
    let mut spec = t5::spec(config)?;
    for stack in spec.stacks.iter_mut().filter(|stack| stack.kind == StackKind::Encoder) {
        for block in &mut stack.layers {
            if let Mixer::Attention(attention) = &mut block.mixer {
                attention.mask = Mask::BidirectionalSliding { reach };
            }
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnOut, AttnQ, AttnV, RelativeBias};
    let mut map = t5::weights(config, spec)?;
    let encoder = &mut map.stacks[0];
    let names = [(AttnQ, "q"), (AttnK, "k"), (AttnV, "v"), (AttnOut, "o")];
    modules(encoder, "encoder.block.{layer}.layer.0.LocalSelfAttention.", &names);
    let bias = "encoder.block.0.layer.0.LocalSelfAttention.relative_attention_bias.weight";
    encoder.pinned(RelativeBias.weight(), bias);
    Ok(map)
}
