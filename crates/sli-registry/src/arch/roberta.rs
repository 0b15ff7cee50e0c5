//! RoBERTa (Liu et al. 2019), with XLM-RoBERTa and CamemBERT: BERT whose positions count from after the padding
//! token's id, with another head.

use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{like_roberta, positions_after_padding};
use crate::config::HfConfig;
use crate::maps::{positions_after, roberta_head};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "roberta",
    family: Family::Encoder,
    model_types: &["roberta", "xlm-roberta", "camembert"],
    architectures: &[
        "RobertaForMaskedLM",
        "RobertaModel",
        "XLMRobertaForMaskedLM",
        "XLMRobertaModel",
        "CamembertForMaskedLM",
        "CamembertModel",
    ],
    known_models: &[
        KnownModel::new("RoBERTa-large", "FacebookAI/roberta-large", ""),
        KnownModel::new("XLM-RoBERTa-large", "FacebookAI/xlm-roberta-large", ""),
        KnownModel::new("CamemBERT", "almanach/camembert-base", ""),
    ],
    spec,
    weights,
};

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = bert::spec(config)?;
    like_roberta(&mut spec, config)?;
    Ok(spec)
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = bert::weights(config, spec)?;
    map.prefixes = vec!["roberta.", ""];
    let (unused, count) = positions_after_padding(config)?;
    positions_after(&mut map.stacks[0], "{prefix}embeddings.position_embeddings", unused, count);
    roberta_head(&mut map, config.bool_or("tie_word_embeddings", true)?);
    Ok(map)
}
