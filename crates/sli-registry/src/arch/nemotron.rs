//! Nemotron-4 and Minitron (NVIDIA 2024): Llama with layer norms that store their weight minus one, a squared ReLU in
//! an MLP without gate, and half of each head rotated.

use serde_json::json;
use sli_core::{Family, ModelSpec, NormSpec, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{remove_gates, set_norm};
use crate::config::HfConfig;
use crate::maps::offset_from_one;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "nemotron",
    family: Family::Llama,
    model_types: &["nemotron"],
    architectures: &["NemotronForCausalLM", "NemotronModel"],
    known_models: &[KnownModel::new("Nemotron-4-340B", "nvidia/Nemotron-4-340B-Base-hf", "96 layers")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let share = config.f64_or(config.first_of(&["partial_rotary_factor", "rope_percent"]), 0.5)?;
    let defaults = json!({ "hidden_act": "relu2", "partial_rotary_factor": share });
    let mut spec = llama::spec(&config.with_defaults(defaults))?;
    remove_gates(&mut spec);
    set_norm(&mut spec, NormSpec::layer(config.f64_or("norm_eps", 1e-5)?));
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnNorm, FinalNorm, MixerNorm};
    let mut map = llama::weights(config, spec)?;
    offset_from_one(&mut map.stacks[0], &[MixerNorm, FfnNorm, FinalNorm]);
    Ok(map)
}
