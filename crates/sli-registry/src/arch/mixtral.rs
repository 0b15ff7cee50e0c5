//! Mixtral (Jiang et al. 2024): Mistral's attention, and a mixture of experts in place of the MLP. The scores of the
//! chosen experts are divided by their sum.

use serde_json::json;
use sli_core::{Family, Ffn, ModelSpec, MoeSpec, Result, RouterSpec, Scoring, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, slide};
use crate::config::HfConfig;
use crate::maps::modules;

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
    let top_k = config.usize("num_experts_per_tok")?;
    for (_, block) in layers(&mut spec) {
        if let Some(Ffn::GatedMlp(expert)) = block.ffn {
            let router = RouterSpec { top_k, scoring: Scoring::Softmax, normalize: true };
            block.ffn = Some(Ffn::Moe(MoeSpec { num_experts, router, expert }));
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{ExpertDown, ExpertGate, ExpertUp, Router};
    let mut map = llama::weights(config, spec)?;
    let names = [
        (Router, "gate"),
        (ExpertGate(0), "experts.{expert}.w1"),
        (ExpertUp(0), "experts.{expert}.w3"),
        (ExpertDown(0), "experts.{expert}.w2"),
    ];
    modules(&mut map.stacks[0], "{prefix}layers.{layer}.block_sparse_moe.", &names);
    Ok(map)
}
