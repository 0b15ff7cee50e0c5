//! RoFormer (Su et al. 2021): BERT with rotations of neighbouring dimensions in place of learned positions, and an
//! embedding that may be narrower than its hidden state. Checkpoints hold the sines and cosines, and those are used.

use sli_core::{Family, KeyValues, LoadOp, ModelSpec, PositionSpec, Result, TensorRole, WeightMap};

use super::{bert, electra};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::maps::neighbour_pairs;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "roformer",
    family: Family::Encoder,
    model_types: &["roformer"],
    architectures: &["RoFormerForMaskedLM", "RoFormerModel"],
    known_models: &[KnownModel::new("RoFormer-base", "junnyu/roformer_chinese_base", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = bert::spec(config)?;
    let width = config.usize_or("embedding_size", spec.stacks[0].hidden_size)?;
    electra::narrow(&mut spec, width);
    spec.stacks[0].embedding.positions = None;
    let positions = config.usize("max_position_embeddings")?;
    let rotates_values = config.bool_or("rotary_value", false)?;
    for (_, attention) in attentions(&mut spec) {
        attention.position = PositionSpec::RotationTable { positions };
        if rotates_values {
            attention.key_values = KeyValues::RotatedValues;
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnOut, AttnQ, AttnV, RotationTable, TokenProjection};
    let mut map = bert::weights(config, spec)?;
    map.prefixes = vec!["roformer.", ""];
    let (stack, apart) = (&mut map.stacks[0], neighbour_pairs(spec));
    stack.module(TokenProjection, "{prefix}embeddings_project");
    stack.pinned(RotationTable.weight(), "{prefix}encoder.embed_positions.weight");
    const SELF: &str = "{prefix}encoder.layer.{layer}.attention.self";
    stack.module_with(AttnQ, &format!("{SELF}.query"), &apart);
    stack.module_with(AttnK, &format!("{SELF}.key"), &apart);
    if config.bool_or("rotary_value", false)? {
        // What is mixed has its pairs apart as well.
        let of_columns: Vec<_> =
            [LoadOp::Transpose].into_iter().chain(apart.iter().copied()).chain([LoadOp::Transpose]).collect();
        stack.module_with(AttnV, &format!("{SELF}.value"), &apart);
        const OUT: &str = "{prefix}encoder.layer.{layer}.attention.output.dense.weight";
        stack.tensor(AttnOut.weight(), &[OUT], &of_columns);
    }
    Ok(map)
}
