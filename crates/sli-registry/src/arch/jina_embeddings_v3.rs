//! Jina Embeddings v3 (Sturua et al. 2024) as transformers has it: RoBERTa with rotations in place of learned
//! positions, and queries, keys and values in one matrix.

use serde_json::json;
use sli_core::{Activation, Family, ModelSpec, Result, TensorRole, WeightMap};

use super::bert;
use super::nomic_bert::flash_names;
use crate::architecture::Architecture;
use crate::blocks::rotate;
use crate::config::HfConfig;
use crate::maps::roberta_head;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "jina_embeddings_v3",
    family: Family::Encoder,
    model_types: &["jina_embeddings_v3"],
    architectures: &["JinaEmbeddingsV3ForMaskedLM", "JinaEmbeddingsV3Model"],
    known_models: &[],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let defaults = json!({ "layer_norm_eps": 1e-5, "type_vocab_size": 1, "rope_theta": 20_000.0 });
    let config = &config.with_defaults(defaults);
    let mut spec = bert::spec(config)?;
    rotate(&mut spec, config)?;
    if let Some(transform) = spec.head.as_mut().and_then(|head| head.transform.as_mut()) {
        transform.activation = Activation::Gelu;
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut stack = flash_names(spec.stacks[0].hidden_size, "mixer");
    stack.module(TensorRole::MlpUp, "{prefix}encoder.layers.{layer}.mlp.fc1");
    let mut map = WeightMap { prefixes: vec!["roberta.", ""], stacks: vec![stack], ..WeightMap::default() };
    roberta_head(&mut map, config.bool_or("tie_word_embeddings", true)?);
    map.ignored.extend(["{prefix}pooler.*", "classifier.*", "qa_outputs.*"].map(String::from));
    Ok(map)
}
