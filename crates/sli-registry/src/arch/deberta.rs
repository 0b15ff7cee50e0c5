//! DeBERTa (He et al. 2021): BERT whose scores depend on what tokens are and on how far apart they are, each by
//! projections of its own. Its head for masked tokens has one of two names.

use serde_json::json;
use sli_core::{
    DisentangledSpec, Family, ModelSpec, NormSpec, PositionProjections, PositionSpec, Result, TensorRole,
    WeightMap,
};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, require};
use crate::config::HfConfig;
use crate::maps::{Fused, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "deberta",
    family: Family::Encoder,
    model_types: &["deberta"],
    architectures: &["DebertaForMaskedLM", "DebertaModel"],
    known_models: &[KnownModel::new("DeBERTa-base/large", "microsoft/deberta-base", "distances up to 512")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    require(config, "talking_head", false)?;
    let distances = Distances {
        reach: max_distance(config)?,
        max_distance: None,
        norm: None,
        projections: PositionProjections::Own { key_bias: false },
    };
    let mut spec = with_distances(config, distances)?;
    attentions(&mut spec).for_each(|(_, attention)| attention.bias.key = false);
    Ok(spec)
}

/// What DeBERTa and DeBERTa-v2 do each in their own way; see [`DisentangledSpec`].
pub(super) struct Distances {
    pub(super) reach: usize,
    pub(super) max_distance: Option<usize>,
    pub(super) norm: Option<NormSpec>,
    pub(super) projections: PositionProjections,
}

/// A BERT with terms of scores by distance, as many as `pos_att_type` names.
pub(super) fn with_distances(config: &HfConfig, distances: Distances) -> Result<ModelSpec> {
    // Of other tasks; which name the head has, which the checkpoint shows; another name of the padding token.
    config.ignore(&["pooler_dropout", "pooler_hidden_act", "pooler_hidden_size", "legacy", "padding_idx"]);
    let token_types = config.count_or("type_vocab_size", 0)?;
    let as_bert =
        config.with_defaults(json!({ "layer_norm_eps": 1e-7 })).with(json!({ "type_vocab_size": 1 }));
    let mut spec = bert::spec(&as_bert)?;
    let stack = &mut spec.stacks[0];
    if config.usize_or("embedding_size", stack.hidden_size)? != stack.hidden_size {
        return Err(
            config.invalid("embedding_size", "the hidden size: a narrower embedding is not supported")
        );
    }
    stack.embedding.token_types = (token_types > 0).then_some(token_types);
    if !config.bool_or("position_biased_input", true)? {
        stack.embedding.positions = None;
    }
    let [content_to_position, position_to_content] = terms(config)?;
    let terms = usize::from(content_to_position) + usize::from(position_to_content);
    let is_relative = config.bool_or("relative_attention", false)? && terms > 0;
    let Distances { reach, max_distance, norm, projections } = distances;
    for (_, attention) in attentions(&mut spec) {
        attention.scale = ((attention.head_dim * (1 + terms)) as f64).powf(-0.5);
        if is_relative {
            attention.position = PositionSpec::Disentangled(DisentangledSpec {
                reach,
                max_distance,
                norm,
                content_to_position,
                position_to_content,
                projections,
            });
        }
    }
    Ok(spec)
}

/// Are there terms of content and position, and of position and content? Released configs join their names.
fn terms(config: &HfConfig) -> Result<[bool; 2]> {
    const KEY: &str = "pos_att_type";
    let names = match config.is_list(KEY) {
        true => config.strs(KEY)?.unwrap_or_default(),
        false => config.str_or(KEY, "")?.split('|').map(|name| name.trim().to_lowercase()).collect(),
    };
    if names.iter().any(|name| !["", "c2p", "p2c"].contains(&&**name)) {
        return Err(config.invalid(KEY, "'c2p', 'p2c' or both"));
    }
    Ok(["c2p", "p2c"].map(|term| names.iter().any(|name| name == term)))
}

/// From where on distances are not told apart: positions where there is no number for it.
pub(super) fn max_distance(config: &HfConfig) -> Result<usize> {
    let positions = config.usize("max_position_embeddings")?;
    let own = config.optional_index("max_relative_positions")?.filter(|distance| *distance > 0);
    Ok(own.unwrap_or(positions))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnQ, AttnV, DistanceK, DistanceQ};
    const SELF: &str = "{prefix}encoder.layer.{layer}.attention.self.";
    let mut map = shared_weights(config, spec)?;
    let stack = &mut map.stacks[0];
    let num_heads = config.usize("num_attention_heads")?;
    let head_dim = spec.stacks[0].hidden_size / num_heads;
    Fused { groups: num_heads, ..Fused::new(&format!("{SELF}in_proj")) }
        .split(stack, &[(AttnQ, head_dim), (AttnK, head_dim), (AttnV, head_dim)]);
    for (role, name) in [(AttnQ, "q_bias"), (AttnV, "v_bias")] {
        stack.tensor(role.bias(), &[&format!("{SELF}{name}")], &[]);
    }
    modules(stack, SELF, &[(DistanceK, "pos_proj"), (DistanceQ, "pos_q_proj")]);
    Ok(map)
}

/// The weights that DeBERTa and DeBERTa-v2 keep alike.
pub(super) fn shared_weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{DistanceTable, HeadDense, HeadNorm, LmHead};
    const HEAD: &str = "lm_predictions.lm_head.";
    let mut map = bert::weights(config, spec)?;
    map.prefixes = vec!["deberta.", ""];
    map.stacks[0].pinned(DistanceTable.weight(), "{prefix}encoder.rel_embeddings.weight");
    for (role, name) in [(HeadDense, "dense"), (HeadNorm, "LayerNorm")] {
        map.head.or(role.weight(), &format!("{HEAD}{name}.weight"));
        map.head.or(role.bias(), &format!("{HEAD}{name}.bias"));
    }
    map.head.or(LmHead.bias(), &format!("{HEAD}bias"));
    // Heads of other tasks, positions that are stored and not added, and what v3 kept of embeddings in training.
    let unused = [
        "cls.*",
        "lm_predictions.*",
        "mask_predictions.*",
        "{prefix}embeddings.position_embeddings.*",
        "{prefix}embeddings.word_embeddings._weight",
    ];
    map.ignored.extend(unused.map(String::from));
    Ok(map)
}
