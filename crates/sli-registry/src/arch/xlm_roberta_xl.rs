//! XLM-RoBERTa-XL and XXL (Goyal et al. 2021): RoBERTa with the norms before each branch and at the end, and none
//! after the embedding.

use sli_core::{Family, ModelSpec, Result, TensorRole, WeightMap};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{like_roberta, norm_before, positions_after_padding};
use crate::config::HfConfig;
use crate::maps::{modules, positions_after, roberta_head};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "xlm_roberta_xl",
    family: Family::Encoder,
    model_types: &["xlm-roberta-xl"],
    architectures: &["XLMRobertaXLForMaskedLM", "XLMRobertaXLModel"],
    known_models: &[KnownModel::new("XLM-R-XXL (10.7B)", "facebook/xlm-roberta-xxl", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = bert::spec(config)?;
    like_roberta(&mut spec, config)?;
    norm_before(&mut spec);
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnNorm, FinalNorm, MixerNorm};
    let mut map = bert::weights(config, spec)?;
    map.prefixes = vec!["roberta.", ""];
    let (unused, count) = positions_after_padding(config)?;
    positions_after(&mut map.stacks[0], "{prefix}embeddings.position_embeddings", unused, count);
    roberta_head(&mut map, config.bool_or("tie_word_embeddings", true)?);
    let norms = [
        (MixerNorm, "layer.{layer}.attention.self_attn_layer_norm"),
        (FfnNorm, "layer.{layer}.LayerNorm"),
        (FinalNorm, "LayerNorm"),
    ];
    modules(&mut map.stacks[0], "{prefix}encoder.", &norms);
    Ok(map)
}
