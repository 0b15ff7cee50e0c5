//! EuroBERT (Boizard et al. 2025): Llama that sees in both directions, for masked language modelling.

use serde_json::json;
use sli_core::{Family, Mask, ModelSpec, Result, StackKind, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "eurobert",
    family: Family::Encoder,
    model_types: &["eurobert"],
    architectures: &["EuroBertForMaskedLM", "EuroBertModel"],
    known_models: &[KnownModel::new("EuroBERT-2.1B", "EuroBERT/EuroBERT-2.1B", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How another task pools.
    config.ignore(&["classifier_pooling", "clf_pooling"]);
    let mut spec = llama::spec(&config.with_defaults(json!({ "rms_norm_eps": 1e-5 })))?;
    attentions(&mut spec).for_each(|(_, attention)| attention.mask = Mask::Bidirectional);
    spec.stacks[0].kind = StackKind::Encoder;
    if let Some(head) = &mut spec.head {
        head.bias = config.bool_or("mlp_bias", false)?;
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    map.head.tensor(TensorRole::LmHead.bias(), &["lm_head.bias"], &[]);
    map.ignored.extend(["classifier.*", "dense.*"].map(String::from));
    Ok(map)
}
