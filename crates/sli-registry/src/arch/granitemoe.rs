//! Granite 3 with experts (IBM 2024), and PowerMoE: Granite's multipliers, small experts chosen by a softmax over the
//! best logits, and in some models a shared one beside them. Gate and up are stored as one.

use sli_core::{Family, LoadOp, ModelSpec, MoeSpec, Result, RouterSpec, Scoring, TensorRole, WeightMap};

use super::{granite, llama};
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::experts::{Fusion, experts_of, fused_experts, gated_experts, mix, shared_network};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "granitemoe",
    family: Family::Moe,
    model_types: &["granitemoe", "granitemoeshared"],
    architectures: &[
        "GraniteMoeForCausalLM",
        "GraniteMoeSharedForCausalLM",
        "GraniteMoeModel",
        "GraniteMoeSharedModel",
    ],
    known_models: &[
        KnownModel::new(
            "Granite-3.1-3B-A800M",
            "ibm-granite/granite-3.1-3b-a800m-base",
            "8 of 40 experts, stored as one",
        ),
        KnownModel::new("PowerMoE-3B", "ibm/PowerMoE-3b", "8 of 40 experts, stored as one"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(config)?;
    granite::multiply(&mut spec, config)?;
    mix_experts(&mut spec, config)?;
    Ok(spec)
}

/// Experts in place of each dense network, and perhaps a shared one beside them.
pub(super) fn mix_experts(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let num_experts = config.usize("num_local_experts")?;
    let shared_width = config.count_or("shared_intermediate_size", 0)?;
    let router = RouterSpec {
        scoring: Scoring::SoftmaxOfChosen,
        ..RouterSpec::softmax(config.usize("num_experts_per_tok")?, false)
    };
    mix(
        spec,
        |_| true,
        |mlp| MoeSpec {
            shared: shared_network(mlp, shared_width),
            ..gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size)
        },
    );
    Ok(())
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{Router, SharedDown, SharedGate, SharedUp};
    const EXPERTS: &str = "{prefix}layers.{layer}.block_sparse_moe.";
    const SHARED: &str = "{prefix}layers.{layer}.shared_mlp.";
    let mut map = llama::weights(config, spec)?;
    let Some(moe) = experts_of(spec) else { return Ok(map) };
    let stack = &mut map.stacks[0];
    stack.module(Router, &format!("{EXPERTS}router.layer"));
    let (gate_up, down) = (format!("{EXPERTS}input_linear.weight"), format!("{EXPERTS}output_linear.weight"));
    fused_experts(stack, moe, Fusion::Rows, &gate_up, &down);
    if let Some(shared) = &moe.shared {
        let inner = shared.mlp.intermediate_size;
        for (role, start) in [(SharedGate, 0), (SharedUp, inner)] {
            let rows = LoadOp::TakeRows { groups: 1, block: 2 * inner, start };
            stack.module_with(role, &format!("{SHARED}input_linear"), &[rows]);
        }
        stack.module(SharedDown, &format!("{SHARED}output_linear"));
    }
    Ok(map)
}
