//! DistilBERT (Sanh et al. 2019): BERT without token types, under other names.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, StackMap, TensorRole, WeightMap};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "distilbert",
    family: Family::Encoder,
    model_types: &["distilbert"],
    architectures: &["DistilBertForMaskedLM", "DistilBertModel"],
    known_models: &[KnownModel::new("DistilBERT", "distilbert/distilbert-base-uncased", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How the table of positions was made, before it was stored.
    config.ignore(&["sinusoidal_pos_embds", "tie_weights_"]);
    let renamed = json!({
        "hidden_size": config.usize("dim")?,
        "intermediate_size": config.usize("hidden_dim")?,
        "num_hidden_layers": config.layers("n_layers")?,
        "num_attention_heads": config.usize("n_heads")?,
        "hidden_act": config.str_or("activation", "gelu")?,
        "layer_norm_eps": 1e-12,
    });
    let mut spec = bert::spec(&config.with(renamed))?;
    spec.stacks[0].embedding.token_types = None;
    Ok(spec)
}

fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    let embedding = [
        (TokenEmbedding, "word_embeddings"),
        (PositionEmbedding, "position_embeddings"),
        (EmbeddingNorm, "LayerNorm"),
    ];
    modules(&mut stack, "{prefix}embeddings.", &embedding);
    let layer = [
        (AttnQ, "attention.q_lin"),
        (AttnK, "attention.k_lin"),
        (AttnV, "attention.v_lin"),
        (AttnOut, "attention.out_lin"),
        (MixerNorm, "sa_layer_norm"),
        (MlpUp, "ffn.lin1"),
        (MlpDown, "ffn.lin2"),
        (FfnNorm, "output_layer_norm"),
    ];
    modules(&mut stack, "{prefix}transformer.layer.{layer}.", &layer);
    let mut map =
        WeightMap { prefixes: vec!["distilbert.", ""], stacks: vec![stack], ..WeightMap::default() };
    modules(&mut map.head, "", &[(HeadDense, "vocab_transform"), (HeadNorm, "vocab_layer_norm")]);
    map.head.tensor(LmHead.bias(), &["vocab_projector.bias"], &[]);
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}embeddings.word_embeddings.weight"], "vocab_projector.weight");
    let others = ["pre_classifier.*", "classifier.*", "qa_outputs.*", "{prefix}embeddings.position_ids"];
    map.ignored.extend(others.map(String::from));
    Ok(map)
}
