//! DeepSeek-V2 (DeepSeek-AI 2024): latent attention, and experts chosen by softmax, perhaps within the best groups.

use sli_core::{Family, ModelSpec, Result, RouterSpec, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::require;
use crate::config::HfConfig;
use crate::experts::{deepseek_experts, deepseek_names, expert_groups};
use crate::mla::{attend_to_latents, latent_attention, latent_weights, rotated_part};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "deepseek_v2",
    family: Family::Llama,
    model_types: &["deepseek_v2"],
    architectures: &["DeepseekV2ForCausalLM", "DeepseekV2Model"],
    known_models: &[
        KnownModel::new(
            "DeepSeek-V2 (236B)",
            "deepseek-ai/DeepSeek-V2",
            "6 of 160 experts from 3 of 8 groups",
        ),
        KnownModel::new(
            "DeepSeek-V2-Lite",
            "deepseek-ai/DeepSeek-V2-Lite",
            "6 of 64 experts, no query latent",
        ),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &rotated_part(config)?;
    if config.str_or("scoring_func", "softmax")? != "softmax" {
        return Err(config.invalid("scoring_func", "softmax"));
    }
    require(config, "norm_topk_prob", false)?;
    let mut spec = llama::spec(config)?;
    attend_to_latents(&mut spec, config)?;
    let groups = expert_groups(config, 1)?;
    let groups = match config.str_or("topk_method", "greedy")? {
        "greedy" => None,
        "group_limited_greedy" => groups,
        _ => return Err(config.invalid("topk_method", "greedy or group_limited_greedy")),
    };
    let router = RouterSpec {
        groups,
        scale: config.f64_or("routed_scaling_factor", 1.0)?,
        ..RouterSpec::softmax(config.usize("num_experts_per_tok")?, false)
    };
    deepseek_experts(&mut spec, config, router)?;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    deepseek_names(&mut map);
    if let Some(mla) = latent_attention(spec) {
        latent_weights(&mut map.stacks[0], "{prefix}layers.{layer}.self_attn.", mla, true);
    }
    Ok(map)
}
