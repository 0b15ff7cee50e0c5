//! ALBERT (Lan et al. 2019): BERT with an embedding narrower than its hidden state, and one layer's weights for all
//! layers, or for groups of them.

use serde_json::json;
use sli_core::{Family, ModelSpec, Narrow, Result, StackMap, TensorRole, WeightMap};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::maps::{decoder_of_masked, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "albert",
    family: Family::Encoder,
    model_types: &["albert"],
    architectures: &["AlbertForMaskedLM", "AlbertForPreTraining", "AlbertModel"],
    known_models: &[
        KnownModel::new("ALBERT-base-v2", "albert/albert-base-v2", "12 layers share their weights"),
        KnownModel::new("ALBERT-xxlarge-v2", "albert/albert-xxlarge-v2", "12 layers share their weights"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Of experiments before the release, and of training.
    config.ignore(&["down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks"]);
    config.ignore(&["layers_to_keep", "classifier_dropout_prob"]);
    let config = &with_class_defaults(config);
    let all_layers =
        config.layers("num_hidden_layers")?.saturating_mul(config.usize_or("inner_group_num", 1)?);
    let mut spec = bert::spec(&config.with(json!({ "num_hidden_layers": all_layers })))?;
    let width = config.usize("embedding_size")?;
    spec.stacks[0].embedding.narrow = Some(Narrow::Sum { width });
    if let Some(transform) = spec.head.as_mut().and_then(|head| head.transform.as_mut()) {
        transform.width = Some(width);
    }
    Ok(spec)
}

fn with_class_defaults(config: &HfConfig) -> HfConfig {
    config.with_defaults(json!({
        "vocab_size": 30_000, "embedding_size": 128, "hidden_size": 4096, "num_hidden_layers": 12,
        "num_attention_heads": 64, "intermediate_size": 16_384, "max_position_embeddings": 512,
        "hidden_act": "gelu_new"
    }))
}

/// Which weights each layer has, by group and place in it. A group is run several times in a row, its layers in turn.
fn shared_layers(config: &HfConfig, spec: &ModelSpec) -> Result<Vec<String>> {
    let config = &with_class_defaults(config);
    let (inner, groups) = (config.usize_or("inner_group_num", 1)?, config.usize_or("num_hidden_groups", 1)?);
    let runs_per_group = config.layers("num_hidden_layers")? as f64 / groups as f64;
    let name = |layer: usize| {
        let group = ((layer / inner) as f64 / runs_per_group) as usize;
        format!("{group}.albert_layers.{}", layer % inner)
    };
    Ok((0..spec.num_layers()).map(name).collect())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut map = bert::weights(config, spec)?;
    map.prefixes = vec!["albert.", ""];
    let stack = &mut map.stacks[0];
    stack.module(TokenProjection, "{prefix}encoder.embedding_hidden_mapping_in");
    let names = [
        (AttnQ, "attention.query"),
        (AttnK, "attention.key"),
        (AttnV, "attention.value"),
        (AttnOut, "attention.dense"),
        (MixerNorm, "attention.LayerNorm"),
        (MlpUp, "ffn"),
        (MlpDown, "ffn_output"),
        (FfnNorm, "full_layer_layer_norm"),
    ];
    modules(stack, "{prefix}encoder.albert_layer_groups.{layer}.", &names);
    stack.share_layers(shared_layers(config, spec)?);
    map.head = StackMap::default();
    modules(&mut map.head, "predictions.", &[(HeadDense, "dense"), (HeadNorm, "LayerNorm")]);
    decoder_of_masked(&mut map, config.bool_or("tie_word_embeddings", true)?, "predictions.");
    // A head of another task.
    map.ignored.push("sop_classifier.*".into());
    if spec.head.is_none() {
        map.ignored.push("predictions.*".into());
    }
    Ok(map)
}
