//! Grok-1 (xAI 2024): each branch between two norms, capped scores, multipliers on the embedding and the logits, and
//! experts whose weights do not sum to one.

use serde_json::json;
use sli_core::{Family, ModelSpec, Residual, Result, RouterSpec, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, set_residual};
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert};
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "grok1",
    family: Family::Moe,
    model_types: &["grok-1"],
    architectures: &["Grok1ModelForCausalLM", "Grok1Model"],
    known_models: &[KnownModel::new("Grok-1 (314B)", "hpcai-tech/grok-1", "2 of 8 experts")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let llama = config
        .with(json!({ "hidden_act": "gelu_pytorch_tanh" }))
        .with_defaults(json!({ "rms_norm_eps": 1e-5 }));
    let mut spec = llama::spec(&llama)?;
    set_residual(&mut spec, Residual::Sandwich);
    spec.stacks[0].embedding.scale = Some(config.f64_or("embedding_multiplier_scale", 1.0)?);
    let (scale, cap) =
        (config.f64_or("attn_output_multiplier", 1.0)?, config.f64_or("max_attn_value", 30.0)?);
    for (_, attention) in attentions(&mut spec) {
        (attention.scale, attention.softcap) = (scale, Some(cap));
    }
    let scale = config.f64_or("output_multiplier_scale", 1.0)?;
    if let Some(head) = &mut spec.head {
        head.scale = Some(scale);
    }
    let num_experts = config.usize_or("num_experts", 8)?;
    let router = RouterSpec::softmax(config.usize_or("num_experts_per_tok", 2)?, false);
    mix(&mut spec, |_| true, |mlp| gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size));
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnOut, AttnQ, AttnV, FfnNorm, FfnOutNorm, FinalNorm, MixerNorm, MixerOutNorm};
    const LAYER: &str = "{prefix}layers.{layer}.";
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    let stack = &mut map.stacks[0];
    let attention = [(AttnQ, "q_proj"), (AttnK, "k_proj"), (AttnV, "v_proj"), (AttnOut, "o_proj")];
    modules(stack, &format!("{LAYER}attn."), &attention);
    let norms = [
        (MixerNorm, "pre_attn_norm"),
        (MixerOutNorm, "post_attn_norm"),
        (FfnNorm, "pre_moe_norm"),
        (FfnOutNorm, "post_moe_norm"),
    ];
    for (role, name) in norms {
        stack.tensor(role.weight(), &[&format!("{LAYER}{name}.scale")], &[]);
    }
    stack.tensor(FinalNorm.weight(), &["{prefix}norm.scale"], &[]);
    per_expert(stack, &format!("{LAYER}moe_block."), "gate", ["linear", "linear_v", "linear_1"]);
    Ok(map)
}
