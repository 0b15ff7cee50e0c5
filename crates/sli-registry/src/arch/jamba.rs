//! Jamba (AI21 2024): Mamba's mixer in most layers, with norms on what each token selects, attention without positions
//! in the others, and experts in every second one.

use sli_core::{Family, Mixer, ModelSpec, PositionSpec, Result, RouterSpec, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, require};
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert};
use crate::maps::modules;
use crate::ssm::{mamba1_names, mamba1_of_hybrid, recur};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "jamba",
    family: Family::Mamba,
    model_types: &["jamba"],
    architectures: &["JambaForCausalLM", "JambaModel"],
    known_models: &[
        KnownModel::new("Jamba-v0.1 (52B)", "ai21labs/Jamba-v0.1", "1 of 8 layers attends, 2 of 16 experts"),
        KnownModel::new("Jamba-1.5-Large (398B)", "ai21labs/AI21-Jamba-1.5-Large", "2 of 16 experts"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How products and sums are computed, and which logits.
    config.ignore(&["use_mamba_kernels", "use_mambapy", "use_associative_scan", "num_logits_to_keep"]);
    config.ignore(&["calc_logits_for_entire_prompt", "n_ctx"]);
    require(config, "mamba_inner_layernorms", true)?;
    let mut spec = llama::spec(config)?;
    without_positions(&mut spec);
    let hidden_size = spec.stacks[0].hidden_size;
    let mut mamba = mamba1_of_hybrid(config, hidden_size, "hidden_act")?;
    mamba.selection_norm = spec.stacks[0].final_norm;
    let attends = once_in(config, ["attn_layer_period", "attn_layer_offset"], [8, 4])?;
    let recurrent: Vec<_> = (0..spec.num_layers()).map(|layer| !attends(layer)).collect();
    recur(&mut spec, &recurrent, &Mixer::Mamba1(mamba));

    let num_experts = config.usize_or("num_experts", 16)?;
    let router = RouterSpec::softmax(config.usize_or("num_experts_per_tok", 2)?, false);
    let sparse = once_in(config, ["expert_layer_period", "expert_layer_offset"], [2, 1])?;
    mix(
        &mut spec,
        |layer| num_experts > 1 && sparse(layer),
        |mlp| gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size),
    );
    Ok(spec)
}

/// Attention that is not told where a token stands, in samples of any length.
pub(super) fn without_positions(spec: &mut ModelSpec) {
    attentions(spec).for_each(|(_, attention)| attention.position = PositionSpec::None);
    spec.max_length = None;
}

/// The layers of index `offset` in each run of `period`.
fn once_in(
    config: &HfConfig,
    [period, offset]: [&str; 2],
    defaults: [usize; 2],
) -> Result<impl Fn(usize) -> bool> {
    let every = config.usize_or(period, defaults[0])?;
    let at = config.count_or(offset, defaults[1])?;
    if at >= every {
        return Err(config.invalid(offset, &format!("less than {period}, which is {every}")));
    }
    Ok(move |layer: usize| layer % every == at)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    hybrid_names(&mut map);
    let stack = &mut map.stacks[0];
    const BASE: &str = "{prefix}layers.{layer}.";
    mamba1_names(stack, &format!("{BASE}mamba."));
    use TensorRole::{SsmReadNorm, SsmStepNorm, SsmWriteNorm};
    let norms = [(SsmStepNorm, "dt_layernorm"), (SsmWriteNorm, "b_layernorm"), (SsmReadNorm, "c_layernorm")];
    modules(stack, &format!("{BASE}mamba."), &norms);
    let names = ["gate_proj", "up_proj", "down_proj"];
    per_expert(stack, &format!("{BASE}feed_forward."), "router", names);
    Ok(map)
}

/// Names that differ from Llama's, here and in other hybrids.
pub(super) fn hybrid_names(map: &mut WeightMap) {
    use TensorRole::{FfnNorm, FinalNorm, MlpDown, MlpGate, MlpUp};
    let stack = &mut map.stacks[0];
    stack.module(FinalNorm, "{prefix}final_layernorm");
    let names = [
        (FfnNorm, "pre_ff_layernorm"),
        (MlpGate, "feed_forward.gate_proj"),
        (MlpUp, "feed_forward.up_proj"),
        (MlpDown, "feed_forward.down_proj"),
    ];
    modules(stack, "{prefix}layers.{layer}.", &names);
}
