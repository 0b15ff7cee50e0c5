//! GLM-4-0414 (Z.ai 2025): GLM-4-9B with norms before and after each branch.

use serde_json::json;
use sli_core::{Family, Ffn, ModelSpec, Residual, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, set_residual};
use crate::config::HfConfig;
use crate::maps::{Fused, modules, unpair_llama};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "glm4",
    family: Family::ChatGlm,
    model_types: &["glm4"],
    architectures: &["Glm4ForCausalLM", "Glm4Model"],
    known_models: &[
        KnownModel::new("GLM-4-9B-0414", "THUDM/GLM-4-9B-0414", ""),
        KnownModel::new("GLM-4-32B-0414", "THUDM/GLM-4-32B-0414", "no biases"),
    ],
    spec,
    weights,
};

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let defaults = json!({
        "attention_bias": true, "head_dim": 128, "partial_rotary_factor": 0.5, "rms_norm_eps": 1.5625e-7
    });
    let mut spec = llama::spec(&config.with_defaults(defaults))?;
    attentions(&mut spec).for_each(|(_, attention)| attention.bias.output = false);
    set_residual(&mut spec, Residual::Sandwich);
    Ok(spec)
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnOutNorm, MixerOutNorm, MlpGate, MlpUp};
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    unpair_llama(stack, spec);
    let names = [(MixerOutNorm, "post_self_attn_layernorm"), (FfnOutNorm, "post_mlp_layernorm")];
    modules(stack, "{prefix}layers.{layer}.", &names);
    if let Some(Ffn::GatedMlp(mlp)) = &spec.stacks[0].layers[0].ffn {
        let rows = mlp.intermediate_size;
        Fused::new("{prefix}layers.{layer}.mlp.gate_up_proj").split(stack, &[(MlpGate, rows), (MlpUp, rows)]);
    }
    Ok(map)
}
