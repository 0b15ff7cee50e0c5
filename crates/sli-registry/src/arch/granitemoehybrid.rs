//! Granite 4 (IBM 2025): Granite's multipliers, Mamba-2's mixer in most layers or none, and in some models experts
//! beside the dense network of each layer.

use serde_json::json;
use sli_core::{Family, Ffn, Mixer, ModelSpec, Result, TensorRole, WeightMap};

use super::{granite, granitemoe, jamba, llama};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::layers;
use crate::config::HfConfig;
use crate::maps::Fused;
use crate::ssm::{mamba2_names, mamba2_of_hybrid, recur, recurrent_layers};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "granitemoehybrid",
    family: Family::Mamba,
    model_types: &["granitemoehybrid"],
    architectures: &["GraniteMoeHybridForCausalLM", "GraniteMoeHybridModel"],
    known_models: &[KnownModel::new(
        "Granite-4.0-H-Small (32B)",
        "ibm-granite/granite-4.0-h-small",
        "4 of 40 layers attend, 10 of 72 experts",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Initial values.
    config.ignore(&["init_method", "logits_to_keep"]);
    if config.str_or("normalization_function", "rmsnorm")? != "rmsnorm" {
        return Err(config.invalid("normalization_function", "rmsnorm"));
    }
    let config = &config.with_defaults(json!({
        "shared_intermediate_size": 1024, "num_local_experts": 8, "num_experts_per_tok": 2
    }));
    let mut spec = llama::spec(config)?;
    granite::multiply(&mut spec, config)?;
    if config.str_or("position_embedding_type", "nope")? != "rope" {
        jamba::without_positions(&mut spec);
    }
    let (hidden_size, norm) = (spec.stacks[0].hidden_size, spec.stacks[0].layers[0].norm);
    let types = config.first_of(&["layer_types", "layers_block_type"]);
    let recurrent = recurrent_layers(config, types, spec.num_layers(), |_| true)?;
    let inner_size = config.usize_or("mamba_expand", 2)? * hidden_size;
    match recurrent.contains(&true) {
        true => recur(&mut spec, &recurrent, &Mixer::Mamba2(mamba2_of_hybrid(config, inner_size, norm)?)),
        false => config.ignore(&UNUSED_WITHOUT_SCANS),
    }
    if config.count_or("num_local_experts", 8)? > 0 {
        granitemoe::mix_experts(&mut spec, config)?;
        return Ok(spec);
    }
    config.ignore(&["num_experts_per_tok"]);
    let inner = config.usize("shared_intermediate_size")?;
    for (_, block) in layers(&mut spec) {
        if let Some(Ffn::GatedMlp(mlp)) = &mut block.ffn {
            mlp.intermediate_size = inner;
        }
    }
    Ok(spec)
}

/// The sizes of the scan, in models in which every layer attends.
const UNUSED_WITHOUT_SCANS: [&str; 10] = [
    "mamba_chunk_size",
    "mamba_n_heads",
    "mamba_d_head",
    "mamba_n_groups",
    "mamba_d_state",
    "mamba_d_conv",
    "mamba_expand",
    "mamba_conv_bias",
    "mamba_proj_bias",
    "time_step_limit",
];

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{MlpDown, MlpGate, MlpUp};
    let mut map = granitemoe::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    mamba2_names(stack, "{prefix}layers.{layer}.mamba.");
    if let Some(Ffn::GatedMlp(mlp)) = &spec.stacks[0].layers[0].ffn {
        let inner = mlp.intermediate_size;
        let dense = "{prefix}layers.{layer}.shared_mlp.";
        Fused::new(&format!("{dense}input_linear")).split(stack, &[(MlpGate, inner), (MlpUp, inner)]);
        stack.module(MlpDown, &format!("{dense}output_linear"));
    }
    Ok(map)
}
