//! Solar Open (Upstage 2026): Llama's attention, and DeepSeek-V3's experts in every layer.

use serde_json::json;
use sli_core::{Family, ModelSpec, ProjectionBias, Result, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::experts::{deepseek_experts, deepseek_names, sigmoid_router};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "solar_open",
    family: Family::Moe,
    model_types: &["solar_open"],
    architectures: &["SolarOpenForCausalLM", "SolarOpenModel"],
    known_models: &[KnownModel::new(
        "Solar-Open-100B",
        "upstage/Solar-Open-100B",
        "8 of 128 experts, 1 shared",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // What the model that this one was made from had: dense layers, norms of heads, predictions of further tokens.
    config.ignore(&["intermediate_size", "first_k_dense_replace", "use_qk_norm", "num_nextn_predict_layers"]);
    let config = &config
        .with(json!({
            "intermediate_size": config.usize("moe_intermediate_size")?,
            "first_k_dense_replace": 0,
        }))
        .with_defaults(json!({
            "head_dim": 128,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1e6,
            "n_shared_experts": 1,
        }));
    let mut spec = llama::spec(config)?;
    let bias = config.bool_or("attention_bias", false)?;
    attentions(&mut spec).for_each(|(_, attention)| attention.bias = ProjectionBias::qkv(bias));
    deepseek_experts(&mut spec, config, sigmoid_router(config)?)?;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    deepseek_names(&mut map);
    Ok(map)
}
