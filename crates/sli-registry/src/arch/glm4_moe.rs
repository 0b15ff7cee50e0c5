//! GLM-4.5 to 4.7 (Zeng et al. 2025): grouped key heads half of whose dimensions are rotated, biases on queries, keys
//! and values, and DeepSeek-V3's experts. Larger models norm their heads.

use serde_json::json;
use sli_core::{Family, ModelSpec, ProjectionBias, Result, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, norm_heads};
use crate::config::HfConfig;
use crate::experts::{deepseek_experts, deepseek_names, ignore_further_predictions, sigmoid_router};
use crate::maps::head_norms;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "glm4_moe",
    family: Family::ChatGlm,
    model_types: &["glm4_moe"],
    architectures: &["Glm4MoeForCausalLM", "Glm4MoeModel"],
    known_models: &[
        KnownModel::new("GLM-4.5-Air (106B)", "zai-org/GLM-4.5-Air", "8 of 128 experts, 1 shared"),
        KnownModel::new(
            "GLM-4.5/4.6/4.7 (355B)",
            "zai-org/GLM-4.6",
            "8 of 160 experts, 1 shared; norms of heads",
        ),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(&config.with_defaults(json!({ "rms_norm_eps": 1e-5 })))?;
    let bias = config.bool_or("attention_bias", false)?;
    attentions(&mut spec).for_each(|(_, attention)| attention.bias = ProjectionBias::qkv(bias));
    if config.bool_or("use_qk_norm", false)? {
        norm_heads(&mut spec);
    }
    deepseek_experts(&mut spec, config, sigmoid_router(config)?)?;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    head_norms(&mut map.stacks[0]);
    deepseek_names(&mut map);
    ignore_further_predictions(&mut map, config, spec)?;
    Ok(map)
}
