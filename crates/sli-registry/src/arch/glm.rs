//! GLM-4-9B as transformers has it (GLM Team 2024): Llama with biases on queries, keys and values, rotations of
//! neighbouring dimensions in the first half of each head, and gate and up in one matrix.

use serde_json::json;
use sli_core::{Family, Ffn, ModelSpec, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::maps::{Fused, unpair_llama};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "glm",
    family: Family::ChatGlm,
    model_types: &["glm"],
    architectures: &["GlmForCausalLM", "GlmModel"],
    known_models: &[KnownModel::new("GLM-4-9B-hf", "THUDM/glm-4-9b-chat-hf", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let defaults = json!({
        "attention_bias": true, "head_dim": 128, "partial_rotary_factor": 0.5, "rms_norm_eps": 1.5625e-7
    });
    let mut spec = llama::spec(&config.with_defaults(defaults))?;
    attentions(&mut spec).for_each(|(_, attention)| attention.bias.output = false);
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    unpair_llama(&mut map.stacks[0], spec);
    if let Some(Ffn::GatedMlp(mlp)) = &spec.stacks[0].layers[0].ffn {
        let rows = mlp.intermediate_size;
        Fused::new("{prefix}layers.{layer}.mlp.gate_up_proj")
            .split(&mut map.stacks[0], &[(TensorRole::MlpGate, rows), (TensorRole::MlpUp, rows)]);
    }
    Ok(map)
}
