//! Snowflake Arctic (2024): layers with experts also have a dense network. It sees what the attention left, while the
//! experts see what the layer sees.

use serde_json::json;
use sli_core::{Family, Ffn, MlpSpec, ModelSpec, Residual, Result, RouterSpec, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, slide};
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "arctic",
    family: Family::Moe,
    model_types: &["arctic"],
    architectures: &["ArcticForCausalLM", "ArcticModel"],
    known_models: &[KnownModel::new(
        "Snowflake Arctic (480B)",
        "Snowflake/snowflake-arctic-base",
        "2 of 128 experts beside a dense network",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How experts were limited in training and spread over devices. What `use_residual` says, `parallel_attn_mlp_res`
    // decides.
    config.ignore(&["moe_eval_capacity_factor", "moe_train_capacity_factor", "moe_min_capacity"]);
    config.ignore(&["moe_token_dropping", "enable_expert_tensor_parallelism", "use_residual"]);
    let config = &config.with_defaults(json!({ "rms_norm_eps": 1e-5, "rope_theta": 1e6 }));
    let mut spec = llama::spec(config)?;
    slide(&mut spec, config)?;
    let every = config.usize_or("moe_layer_frequency", 2)?;
    let num_experts = config.usize_or("num_local_experts", 8)?;
    let top_k = config.usize_or("num_experts_per_tok", 1)?;
    // The weight of a single choice is its score.
    let router = RouterSpec::softmax(top_k, top_k > 1);
    let is_sparse = |layer: usize| (layer + 1).is_multiple_of(every);
    mix(&mut spec, is_sparse, |mlp| gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size));
    if config.bool_or("parallel_attn_mlp_res", false)? {
        let intermediate_size = spec.stacks[0].hidden_size;
        for (_, block) in layers(&mut spec) {
            if let Some(Ffn::Moe(moe)) = &block.ffn
                && let sli_core::ExpertSpec::Gated(expert) = moe.expert
            {
                block.residual = Residual::DenseBetween(MlpSpec { intermediate_size, ..expert });
            }
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{DenseNorm, MlpDown, MlpGate, MlpUp};
    const LAYER: &str = "{prefix}layers.{layer}.";
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    per_expert(stack, &format!("{LAYER}block_sparse_moe."), "gate", ["w1", "w3", "w2"]);
    stack.module(DenseNorm, &format!("{LAYER}residual_layernorm"));
    // A layer has its dense network either beside the experts or in their place.
    for (role, name) in [(MlpGate, "w1"), (MlpUp, "w3"), (MlpDown, "w2")] {
        let names =
            ["residual_mlp", "block_sparse_moe.mlp"].map(|module| format!("{LAYER}{module}.{name}.weight"));
        stack.tensor(role.weight(), &names.each_ref().map(String::as_str), &[]);
    }
    Ok(map)
}
