//! Phi-1, Phi-1.5 and Phi-2 (Gunasekar et al. 2023, Li et al. 2023): Llama with both branches behind one layer norm,
//! biases everywhere, an MLP without gate, and a part of each head rotated.

use serde_json::json;
use sli_core::{
    Family, ModelSpec, NormSpec, ProjectionBias, QkNorm, Residual, Result, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, remove_gates, set_mlp_bias, set_norm, set_residual};
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "phi",
    family: Family::Phi,
    model_types: &["phi"],
    architectures: &["PhiForCausalLM", "PhiModel"],
    known_models: &[
        KnownModel::new("Phi-1 / Phi-1.5", "microsoft/phi-1_5", ""),
        KnownModel::new("Phi-2", "microsoft/phi-2", "2.7B"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let defaults = json!({ "hidden_act": "gelu_new", "partial_rotary_factor": 0.5 });
    let mut spec = llama::spec(&config.with_defaults(defaults))?;
    let norm = NormSpec::layer(config.f64_or("layer_norm_eps", 1e-5)?);
    remove_gates(&mut spec);
    set_mlp_bias(&mut spec, true);
    set_norm(&mut spec, norm);
    set_residual(&mut spec, Residual::Parallel { shared_norm: true });
    let heads_normed = config.bool_or("qk_layernorm", false)?;
    for (_, attention) in attentions(&mut spec) {
        attention.bias = ProjectionBias::all(true);
        attention.qk_norm = heads_normed.then_some(QkNorm::PerHead(norm));
    }
    if let Some(head) = &mut spec.head {
        head.bias = true;
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnKNorm, AttnOut, AttnQNorm, FinalNorm, LmHead, MlpDown, MlpUp};
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    stack.module(FinalNorm, "{prefix}final_layernorm");
    let names = [
        (AttnQNorm, "self_attn.q_layernorm"),
        (AttnKNorm, "self_attn.k_layernorm"),
        (AttnOut, "self_attn.dense"),
        (MlpUp, "mlp.fc1"),
        (MlpDown, "mlp.fc2"),
    ];
    modules(stack, "{prefix}layers.{layer}.", &names);
    map.head.tensor(LmHead.bias(), &["lm_head.bias"], &[]);
    Ok(map)
}
