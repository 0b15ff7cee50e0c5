//! BERT (Devlin et al. 2018): bidirectional, learned positions and token types, layer norms after each branch.
//! The head of its masked language model has a transform before the embedding's matrix.

use sli_core::{
    BlockSpec, EmbeddingSpec, Family, Ffn, HeadSpec, HeadTransform, Mask, Mixer, MlpSpec, ModelSpec,
    NormSpec, Positions, Residual, Result, StackKind, StackMap, StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{activation, has_lm_head, model, multi_head, require, share_per_head};
use crate::config::HfConfig;
use crate::maps::{decoder_of_masked, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "bert",
    family: Family::Encoder,
    model_types: &["bert"],
    architectures: &["BertForMaskedLM", "BertForPreTraining", "BertModel"],
    known_models: &[
        KnownModel::new("BERT-base/large", "google-bert/bert-base-uncased", ""),
        KnownModel::new("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "no head"),
    ],
    spec,
    weights,
};

pub(crate) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Sizes of a pooler that only another task uses.
    config.ignore(&[
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
    ]);
    config.ignore(&["pooler_size_per_head", "pooler_type"]);
    if config.str_or("position_embedding_type", "absolute")? != "absolute" {
        return Err(config.invalid("position_embedding_type", "absolute"));
    }
    require(config, "is_decoder", false)?;
    require(config, "add_cross_attention", false)?;
    let hidden_size = config.usize("hidden_size")?;
    let vocab_size = config.usize("vocab_size")?;
    let num_positions = config.usize("max_position_embeddings")?;
    let num_heads = config.usize("num_attention_heads")?;
    let head_dim = share_per_head(config, hidden_size, num_heads)?;
    let norm = NormSpec::layer(config.f64_or("layer_norm_eps", 1e-12)?);
    let activation = activation(config, "hidden_act", "gelu")?;
    let mlp = MlpSpec { intermediate_size: config.usize("intermediate_size")?, activation, bias: true };
    let block = BlockSpec {
        mixer: Mixer::Attention(multi_head(num_heads, head_dim, Mask::Bidirectional, true)),
        cross_attention: None,
        ffn: Some(Ffn::Mlp(mlp)),
        residual: Residual::PostNorm,
        norm,
    };
    let embedding = EmbeddingSpec {
        positions: Some(Positions::Learned { count: num_positions }),
        token_types: Some(config.usize_or("type_vocab_size", 2)?),
        norm: Some(norm),
        ..EmbeddingSpec::tokens(vocab_size)
    };
    let stack = StackSpec {
        kind: StackKind::Encoder,
        hidden_size,
        embedding,
        layers: vec![block; config.layers("num_hidden_layers")?],
        final_norm: None,
    };
    let transform = Some(HeadTransform { bias: true, width: None, activation, norm: Some(norm) });
    let head = HeadSpec { transform, bias: true, ..HeadSpec::plain(vocab_size) };
    Ok(model(vec![stack], has_lm_head(config).then_some(head), Some(num_positions)))
}

pub(crate) fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    let embedding = [
        (TokenEmbedding, "word_embeddings"),
        (PositionEmbedding, "position_embeddings"),
        (TokenTypeEmbedding, "token_type_embeddings"),
        (EmbeddingNorm, "LayerNorm"),
    ];
    modules(&mut stack, "{prefix}embeddings.", &embedding);
    let layer = [
        (AttnQ, "attention.self.query"),
        (AttnK, "attention.self.key"),
        (AttnV, "attention.self.value"),
        (AttnOut, "attention.output.dense"),
        (MixerNorm, "attention.output.LayerNorm"),
        (MlpUp, "intermediate.dense"),
        (MlpDown, "output.dense"),
        (FfnNorm, "output.LayerNorm"),
    ];
    modules(&mut stack, "{prefix}encoder.layer.{layer}.", &layer);
    let mut map = WeightMap {
        prefixes: vec!["bert.", ""],
        renamed_endings: vec![
            (".LayerNorm.gamma", ".LayerNorm.weight"),
            (".LayerNorm.beta", ".LayerNorm.bias"),
        ],
        stacks: vec![stack],
        ..WeightMap::default()
    };
    let head = [(HeadDense, "dense"), (HeadNorm, "LayerNorm")];
    modules(&mut map.head, "cls.predictions.transform.", &head);
    decoder_of_masked(&mut map, config.bool_or("tie_word_embeddings", true)?, "cls.predictions.");
    // Tables of numbers, and heads of other tasks.
    let unused = [
        "{prefix}embeddings.position_ids",
        "{prefix}embeddings.token_type_ids",
        "{prefix}pooler.*",
        "cls.seq_relationship.*",
        "classifier.*",
        "qa_outputs.*",
    ];
    map.ignored.extend(unused.map(String::from));
    Ok(map)
}
