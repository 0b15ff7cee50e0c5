//! Megatron-BERT (Shoeybi et al. 2019): BERT with the norms before each branch and at the end, and none after the
//! embedding.

use sli_core::{Family, ModelSpec, Result, TensorRole, WeightMap};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::norm_before;
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "megatron_bert",
    family: Family::Encoder,
    model_types: &["megatron-bert"],
    architectures: &["MegatronBertForMaskedLM", "MegatronBertForPreTraining", "MegatronBertModel"],
    known_models: &[KnownModel::new("Megatron-BERT-345M", "nvidia/megatron-bert-uncased-345m", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = bert::spec(config)?;
    norm_before(&mut spec);
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnNorm, FinalNorm, MixerNorm};
    let mut map = bert::weights(config, spec)?;
    let norms = [(MixerNorm, "layer.{layer}.attention.ln"), (FfnNorm, "layer.{layer}.ln"), (FinalNorm, "ln")];
    modules(&mut map.stacks[0], "{prefix}encoder.", &norms);
    Ok(map)
}
