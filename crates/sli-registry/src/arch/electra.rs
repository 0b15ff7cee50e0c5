//! ELECTRA (Clark et al. 2020): BERT whose embedding may be narrower than its hidden state. The discriminator tells
//! original tokens from replaced ones, with a logit for each token; the generator is a masked language model.

use serde_json::json;
use sli_core::{
    Activation, Family, HeadSpec, HeadTransform, ModelSpec, Narrow, Result, StackMap, TensorRole, WeightMap,
};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::has_lm_head;
use crate::config::HfConfig;
use crate::maps::{lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "electra",
    family: Family::Encoder,
    model_types: &["electra"],
    architectures: &["ElectraForPreTraining", GENERATOR, "ElectraModel"],
    known_models: &[
        KnownModel::new("ELECTRA-large", "google/electra-large-discriminator", "a logit for each token"),
        KnownModel::new("ELECTRA-small", "google/electra-small-discriminator", "embeddings of 128"),
    ],
    spec,
    weights,
};

const GENERATOR: &str = "ElectraForMaskedLM";

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Of another task's summary of a text.
    config.ignore(&["summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout"]);
    let class_defaults = json!({
        "vocab_size": 30_522, "embedding_size": 128, "hidden_size": 256, "num_hidden_layers": 12,
        "num_attention_heads": 4, "intermediate_size": 1024, "max_position_embeddings": 512
    });
    let config = &config.with_defaults(class_defaults);
    let mut spec = bert::spec(config)?;
    let width = config.usize("embedding_size")?;
    narrow(&mut spec, width);
    if let Some(HeadSpec { transform: Some(transform), vocab_size, .. }) = &mut spec.head {
        if is_generator(config) {
            transform.activation = Activation::Gelu;
        } else {
            *transform = HeadTransform { norm: None, width: None, ..*transform };
            *vocab_size = 1;
        }
    }
    Ok(spec)
}

/// A table, and a head that ends in it, of this width.
pub(super) fn narrow(spec: &mut ModelSpec, width: usize) {
    let stack = &mut spec.stacks[0];
    stack.embedding.narrow = (width != stack.hidden_size).then_some(Narrow::Sum { width });
    if let Some(transform) = spec.head.as_mut().and_then(|head| head.transform.as_mut()) {
        transform.width = Some(width);
    }
}

fn is_generator(config: &HfConfig) -> bool {
    config.architectures().contains(&GENERATOR)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{HeadDense, HeadNorm, LmHead, TokenProjection};
    const EMBEDDINGS: &[&str] = &["{prefix}embeddings.word_embeddings.weight"];
    let mut map = bert::weights(config, spec)?;
    map.prefixes = vec!["electra.", ""];
    map.stacks[0].module(TokenProjection, "{prefix}embeddings_project");
    map.head = StackMap::default();
    if is_generator(config) {
        let names = [(HeadDense, "dense"), (HeadNorm, "LayerNorm")];
        modules(&mut map.head, "generator_predictions.", &names);
        map.head.tensor(LmHead.bias(), &["generator_lm_head.bias"], &[]);
        let tied = config.bool_or("tie_word_embeddings", true)?;
        lm_head(&mut map, tied, EMBEDDINGS, "generator_lm_head.weight");
    } else if has_lm_head(config) {
        let names = [(HeadDense, "dense"), (LmHead, "dense_prediction")];
        modules(&mut map.head, "discriminator_predictions.", &names);
    }
    // Heads of a model that was trained as the other one, or is used without any.
    let others = ["discriminator_predictions.*", "generator_predictions.*", "generator_lm_head.*"];
    map.ignored.extend(others.map(String::from));
    Ok(map)
}
