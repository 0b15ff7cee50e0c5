//! ERNIE (Sun et al. 2021): BERT whose embedding has a row for the task; without one named, that of the first.

use sli_core::{Family, LoadOp, ModelSpec, Result, TensorRole, WeightMap};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "ernie",
    family: Family::Encoder,
    model_types: &["ernie"],
    architectures: &["ErnieForMaskedLM", "ErnieForPreTraining", "ErnieModel"],
    known_models: &[KnownModel::new(
        "ERNIE-3.0-base-zh",
        "nghuyong/ernie-3.0-base-zh",
        "a row for the first of 3 tasks",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // The rows of other tasks.
    config.ignore(&["task_type_vocab_size"]);
    let mut spec = bert::spec(config)?;
    spec.stacks[0].embedding.task_row = config.bool_or("use_task_id", false)?;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    const TASKS: &str = "{prefix}embeddings.task_type_embeddings";
    let mut map = bert::weights(config, spec)?;
    map.prefixes = vec!["ernie.", "bert.", ""];
    let count = config.usize_or("task_type_vocab_size", 3)?;
    let first = LoadOp::TakeRows { groups: 1, block: count, start: 0 };
    map.stacks[0].module_with(TensorRole::TaskEmbedding, TASKS, &[first]);
    if !spec.stacks[0].embedding.task_row {
        map.ignored.push(format!("{TASKS}.weight"));
    }
    Ok(map)
}
