//! MPNet (Song et al. 2020): RoBERTa without token types, and with a learned bias per bucket of distance, one table
//! for all layers.

use sli_core::{Family, ModelSpec, PositionSpec, Result, TensorRole, WeightMap};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, like_roberta, positions_after_padding};
use crate::config::HfConfig;
use crate::maps::{modules, positions_after, roberta_head};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "mpnet",
    family: Family::Encoder,
    model_types: &["mpnet"],
    architectures: &["MPNetForMaskedLM", "MPNetModel"],
    known_models: &[KnownModel::new(
        "MPNet / all-mpnet-base-v2",
        "sentence-transformers/all-mpnet-base-v2",
        "no head",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // The code has both numbers built in; a config that says otherwise only has a larger table.
    const NUM_BUCKETS: usize = 32;
    const MAX_DISTANCE: usize = 128;
    if config.usize_or("relative_attention_num_buckets", NUM_BUCKETS)? != NUM_BUCKETS {
        return Err(config.invalid("relative_attention_num_buckets", "32"));
    }
    let mut spec = bert::spec(config)?;
    like_roberta(&mut spec, config)?;
    spec.stacks[0].embedding.token_types = None;
    for (_, attention) in attentions(&mut spec) {
        attention.position = PositionSpec::RelativeBias {
            num_buckets: NUM_BUCKETS,
            max_distance: MAX_DISTANCE,
            bidirectional: true,
        };
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnOut, AttnQ, AttnV, MixerNorm, RelativeBias};
    let mut map = bert::weights(config, spec)?;
    map.prefixes = vec!["mpnet.", ""];
    let (unused, count) = positions_after_padding(config)?;
    positions_after(&mut map.stacks[0], "{prefix}embeddings.position_embeddings", unused, count);
    roberta_head(&mut map, config.bool_or("tie_word_embeddings", true)?);
    let names = [
        (AttnQ, "attn.q"),
        (AttnK, "attn.k"),
        (AttnV, "attn.v"),
        (AttnOut, "attn.o"),
        (MixerNorm, "LayerNorm"),
    ];
    modules(&mut map.stacks[0], "{prefix}encoder.layer.{layer}.attention.", &names);
    map.stacks[0].pinned(RelativeBias.weight(), "{prefix}encoder.relative_attention_bias.weight");
    Ok(map)
}
