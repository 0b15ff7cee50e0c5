//! Qwen1.5 and Qwen2 with experts (Yang et al. 2024): Qwen2's attention, many small experts, and a shared one whose
//! result each token weighs.

use sli_core::{
    Family, Ffn, MlpSpec, ModelSpec, ProjectionBias, Result, SharedExpertSpec, StackMap, TensorRole,
    WeightMap,
};

use super::qwen3_moe::qwen_experts;
use super::{llama, qwen2};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, layers};
use crate::config::HfConfig;
use crate::experts::{per_expert, shared_expert};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "qwen2_moe",
    family: Family::Moe,
    model_types: &["qwen2_moe"],
    architectures: &["Qwen2MoeForCausalLM", "Qwen2MoeModel"],
    known_models: &[
        KnownModel::new("Qwen1.5-MoE-A2.7B", "Qwen/Qwen1.5-MoE-A2.7B", "4 of 60 experts, a shared one"),
        KnownModel::new("Qwen2-57B-A14B", "Qwen/Qwen2-57B-A14B", "8 of 64 experts, a shared one"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(config)?;
    let windows = qwen2::windows(config, spec.num_layers())?;
    let bias = config.bool_or("qkv_bias", true)?;
    for (layer, attention) in attentions(&mut spec) {
        attention.bias = ProjectionBias::qkv(bias);
        attention.mask = windows[layer];
    }
    qwen_experts(&mut spec, config)?;
    add_shared_expert(&mut spec, config)?;
    Ok(spec)
}

/// Beside the experts of each layer, one that every token goes through and weighs.
pub(super) fn add_shared_expert(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let intermediate_size = config.usize("shared_expert_intermediate_size")?;
    for (_, block) in layers(spec) {
        if let Some(Ffn::Moe(moe)) = &mut block.ffn
            && let sli_core::ExpertSpec::Gated(expert) = moe.expert
        {
            let mlp = MlpSpec { intermediate_size, ..expert };
            moe.shared = Some(SharedExpertSpec { mlp, gated: true, scale: 1.0 });
        }
    }
    Ok(())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    expert_names(&mut map.stacks[0]);
    Ok(map)
}

/// The names of the router, the experts and the shared one.
pub(super) fn expert_names(stack: &mut StackMap) {
    const BASE: &str = "{prefix}layers.{layer}.mlp.";
    per_expert(stack, BASE, "gate", ["gate_proj", "up_proj", "down_proj"]);
    shared_expert(stack, &format!("{BASE}shared_expert."));
    stack.module(TensorRole::SharedScale, &format!("{BASE}shared_expert_gate"));
}
