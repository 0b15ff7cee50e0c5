//! Mistral (Jiang et al. 2023): Llama with a sliding window on every layer, where the config names one.

use sli_core::{Family, ModelSpec, Result};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::slide;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "mistral",
    family: Family::Llama,
    model_types: &["mistral"],
    architectures: &["MistralForCausalLM", "MistralModel"],
    known_models: &[
        KnownModel::new("Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.1", "sliding window of 4096"),
        KnownModel::new("Mistral-Nemo-12B", "mistralai/Mistral-Nemo-Base-2407", "heads of 128, no window"),
        KnownModel::new("Mistral-Large-123B", "mistralai/Mistral-Large-Instruct-2407", "no window"),
    ],
    spec,
    weights: llama::weights,
};

pub(crate) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(config)?;
    slide(&mut spec, config)?;
    Ok(spec)
}
