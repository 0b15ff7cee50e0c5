//! XVERSE (Shenzhen Yuanxiang 2023 and 2024): Llama; where the config has experts, many small ones and shared ones in
//! every layer.

use sli_core::{Family, ModelSpec, MoeSpec, Result, RouterSpec, StackMap, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert, shared_expert, shared_network};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "xverse",
    family: Family::Llama,
    model_types: &["xverse"],
    architectures: &["XverseForCausalLM", "XverseMoeForCausalLM", "XverseModel"],
    known_models: &[
        KnownModel::new("XVERSE-65B", "xverse/XVERSE-65B", ""),
        KnownModel::new("XVERSE-MoE-A4.2B", "xverse/XVERSE-MoE-A4.2B", "6 of 64 experts, 2 shared"),
        KnownModel::new("XVERSE-MoE-A36B", "xverse/XVERSE-MoE-A36B", "6 of 64 experts, 2 shared"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(config)?;
    let Some(num_experts) = config.optional_usize("num_experts")? else { return Ok(spec) };
    let num_shared = config.count_or("num_shared_experts", 0)?;
    let top_k = config.usize(config.first_of(&["moe_top_k", "num_experts_per_tok"]))?;
    let router = RouterSpec::softmax(top_k, config.bool_or("norm_topk_prob", false)?);
    mix(
        &mut spec,
        |_| true,
        |mlp| MoeSpec {
            shared: shared_network(mlp, num_shared * mlp.intermediate_size),
            ..gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size)
        },
    );
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    const BASE: &str = "{prefix}layers.{layer}.mlp.";
    let mut map = llama::weights(config, spec)?;
    let stack: &mut StackMap = &mut map.stacks[0];
    per_expert(stack, BASE, "router", ["gate_proj", "up_proj", "down_proj"]);
    shared_expert(stack, &format!("{BASE}shared_experts."));
    Ok(map)
}
