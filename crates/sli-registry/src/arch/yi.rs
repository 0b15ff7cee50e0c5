//! Yi (01.AI 2023) as first released: Llama with other names for the norms of the branches.

use sli_core::{Family, ModelSpec, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "yi",
    family: Family::Llama,
    model_types: &["Yi"],
    architectures: &["YiForCausalLM", "YiModel"],
    known_models: &[KnownModel::new("Yi-34B-200K (first release)", "01-ai/Yi-34B-200K", "")],
    spec: llama::spec,
    weights,
};

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    let norms = [(TensorRole::MixerNorm, "ln1"), (TensorRole::FfnNorm, "ln2")];
    modules(&mut map.stacks[0], "{prefix}layers.{layer}.", &norms);
    Ok(map)
}
