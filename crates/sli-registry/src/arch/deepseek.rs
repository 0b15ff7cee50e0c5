//! DeepSeekMoE (Dai et al. 2024): Llama's attention, many small experts, and shared ones beside them.

use sli_core::{Family, ModelSpec, Result, RouterSpec, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::experts::{deepseek_experts, deepseek_names};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "deepseek",
    family: Family::Moe,
    model_types: &["deepseek"],
    architectures: &["DeepseekForCausalLM", "DeepseekModel"],
    known_models: &[KnownModel::new(
        "DeepSeek-MoE-16B",
        "deepseek-ai/deepseek-moe-16b-base",
        "6 of 64 experts, 2 shared",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    if config.str_or("scoring_func", "softmax")? != "softmax" {
        return Err(config.invalid("scoring_func", "softmax"));
    }
    let mut spec = llama::spec(config)?;
    let normalize = config.bool_or("norm_topk_prob", false)?;
    let router = RouterSpec {
        normalize: normalize.then_some(1e-20),
        ..RouterSpec::softmax(config.usize("num_experts_per_tok")?, false)
    };
    deepseek_experts(&mut spec, config, router)?;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    deepseek_names(&mut map);
    Ok(map)
}
