//! Mixtral (Jiang et al. 2024): Mistral's attention, and a mixture of experts in place of the MLP. The scores of the
//! chosen experts are divided by their sum.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, RouterSpec, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::slide;
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "mixtral",
    family: Family::Moe,
    model_types: &["mixtral"],
    architectures: &["MixtralForCausalLM", "MixtralModel"],
    known_models: &[
        KnownModel::new("Mixtral-8x7B", "mistralai/Mixtral-8x7B-v0.1", "2 of 8 experts"),
        KnownModel::new("Mixtral-8x22B (141B)", "mistralai/Mixtral-8x22B-v0.1", "2 of 8 experts"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &config.with_defaults(json!({ "rms_norm_eps": 1e-5, "rope_theta": 1e6 }));
    let mut spec = llama::spec(config)?;
    slide(&mut spec, config)?;
    let num_experts = config.usize(config.first_of(&["num_local_experts", "num_experts"]))?;
    let router = RouterSpec::softmax(config.usize("num_experts_per_tok")?, true);
    mix(&mut spec, |_| true, |mlp| gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size));
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    per_expert(&mut map.stacks[0], "{prefix}layers.{layer}.block_sparse_moe.", "gate", ["w1", "w3", "w2"]);
    Ok(map)
}
