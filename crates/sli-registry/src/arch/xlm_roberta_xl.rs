//! XLM-RoBERTa-XL and XXL (Goyal et al. 2021): RoBERTa with the norms before each branch and at the end, and none
//! after the embedding.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, TensorRole, WeightMap};

use super::roberta;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::norm_before;
use crate::config::HfConfig;
use crate::maps::modules;

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
    let mut spec = roberta::spec(&config.with_defaults(json!({ "layer_norm_eps": 1e-5 })))?;
    norm_before(&mut spec);
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnNorm, FinalNorm, MixerNorm};
    let mut map = roberta::weights(config, spec)?;
    let norms = [
        (MixerNorm, "layer.{layer}.attention.self_attn_layer_norm"),
        (FfnNorm, "layer.{layer}.LayerNorm"),
        (FinalNorm, "LayerNorm"),
    ];
    modules(&mut map.stacks[0], "{prefix}encoder.", &norms);
    Ok(map)
}
