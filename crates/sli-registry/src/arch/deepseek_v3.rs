//! DeepSeek-V3 (DeepSeek-AI 2024): latent attention, and experts chosen by sigmoids with a correction, within the best
//! groups. Kimi K2 is the same with other sizes.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::experts::{deepseek_experts, deepseek_names, ignore_further_predictions, sigmoid_router};
use crate::mla::{
    attend_to_latents, index_keys, index_weights, latent_attention, latent_weights, rotated_part,
};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "deepseek_v3",
    family: Family::Llama,
    model_types: &["deepseek_v3", "kimi_k2"],
    architectures: &["DeepseekV3ForCausalLM", "DeepseekV3Model"],
    known_models: &[
        KnownModel::new(
            "DeepSeek-V3/R1 (671B)",
            "deepseek-ai/DeepSeek-V3",
            "8 of 256 experts, 1 shared; fp8",
        ),
        KnownModel::new("Kimi-K2 (1T)", "moonshotai/Kimi-K2-Instruct", "8 of 384 experts, 1 shared; fp8"),
        KnownModel::new("Moonlight-16B-A3B", "moonshotai/Moonlight-16B-A3B", "6 of 64 experts, 2 shared"),
    ],
    spec: latent,
    weights: |config, spec| latent_map(config, spec, config.bool_or("rope_interleave", true)?),
};

/// DeepSeek-V3.2: the same, and each query sees only the keys that an indexer chooses.
pub(crate) const SPARSE: Architecture = Architecture {
    name: "deepseek_v32",
    family: Family::Llama,
    model_types: &["deepseek_v32"],
    architectures: &["DeepseekV32ForCausalLM", "DeepseekV32Model"],
    known_models: &[KnownModel::new(
        "DeepSeek-V3.2 (671B)",
        "deepseek-ai/DeepSeek-V3.2",
        "each query sees 2048 keys at most",
    )],
    spec: sparse,
    weights: |config, spec| {
        let mut map = latent_map(config, spec, true)?;
        // Unlike the attention, the indexer pairs the halves of the rotated part.
        index_names(&mut map, spec, false);
        Ok(map)
    },
};

/// GLM-4.7-Flash: DeepSeek-V3's blocks with other sizes.
pub(crate) const GLM_LITE: Architecture = Architecture {
    name: "glm4_moe_lite",
    family: Family::ChatGlm,
    model_types: &["glm4_moe_lite"],
    architectures: &["Glm4MoeLiteForCausalLM", "Glm4MoeLiteModel"],
    known_models: &[KnownModel::new("GLM-4.7-Flash (30B-A3B)", "zai-org/GLM-4.7-Flash", "latent attention")],
    spec: |config| latent(&with_eps_of_glm(config)),
    ..ARCHITECTURE
};

/// GLM-5: DeepSeek-V3.2's blocks with other sizes and an indexer that pairs neighbours.
pub(crate) const GLM_SPARSE: Architecture = Architecture {
    name: "glm_moe_dsa",
    family: Family::ChatGlm,
    model_types: &["glm_moe_dsa"],
    architectures: &["GlmMoeDsaForCausalLM", "GlmMoeDsaModel"],
    known_models: &[KnownModel::new("GLM-5 (744B)", "zai-org/GLM-5", "each query sees 2048 keys at most")],
    spec: |config| sparse(&with_eps_of_glm(config)),
    weights: |config, spec| {
        let mut map = latent_map(config, spec, true)?;
        index_names(&mut map, spec, config.bool_or("indexer_rope_interleave", true)?);
        Ok(map)
    },
};

fn with_eps_of_glm(config: &HfConfig) -> HfConfig {
    config.with_defaults(json!({ "rms_norm_eps": 1e-5 }))
}

fn latent(config: &HfConfig) -> Result<ModelSpec> {
    let config = &rotated_part(config)?;
    config.ignore(&["rope_interleave"]);
    let mut spec = llama::spec(config)?;
    attend_to_latents(&mut spec, config)?;
    deepseek_experts(&mut spec, config, sigmoid_router(config)?)?;
    Ok(spec)
}

fn sparse(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = latent(config)?;
    index_keys(&mut spec, config)?;
    Ok(spec)
}

fn latent_map(config: &HfConfig, spec: &ModelSpec, pairs: bool) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    deepseek_names(&mut map);
    if let Some(mla) = latent_attention(spec) {
        latent_weights(&mut map.stacks[0], "{prefix}layers.{layer}.self_attn.", mla, pairs);
    }
    ignore_further_predictions(&mut map, config, spec)?;
    Ok(map)
}

fn index_names(map: &mut WeightMap, spec: &ModelSpec, pairs: bool) {
    if let Some(mla) = latent_attention(spec) {
        index_weights(&mut map.stacks[0], "{prefix}layers.{layer}.self_attn.indexer.", mla, pairs);
    }
}
