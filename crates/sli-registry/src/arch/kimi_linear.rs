//! Kimi Linear (Kimi Team 2025): DeepSeek-V3's experts, three layers of linear attention with a delta rule whose state
//! fades channel by channel for each of latent attention, and no positions at all.

use serde_json::json;
use sli_core::{
    Activation, DeltaNetSpec, Family, LoadOp, ModelSpec, NormSpec, PositionSpec, ReadGate, Result, StackMap,
    StateDecay, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, require};
use crate::config::HfConfig;
use crate::delta::{attend_linearly, decay_parameters};
use crate::experts::{
    deepseek_experts, ignore_further_predictions, per_expert, shared_expert, sigmoid_router,
};
use crate::layer_types::layers_of_type;
use crate::maps::modules;
use crate::mla::{attend_to_latents, latent_attention, latent_weights, rotated_part};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "kimi_linear",
    family: Family::Mamba,
    model_types: &["kimi_linear"],
    architectures: &["KimiLinearForCausalLM", "KimiLinearModel"],
    known_models: &[KnownModel::new(
        "Kimi-Linear-48B-A3B",
        "moonshotai/Kimi-Linear-48B-A3B-Base",
        "delta rule in three of four layers, 8 of 256 experts",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    require(config, "mla_use_nope", true)?;
    require(config, "use_grouped_topk", true)?;
    let config = &rotated_part(&with_names_of_deepseek(config)?)?;
    let mut spec = llama::spec(config)?;
    let num_layers = spec.num_layers();
    let linear = linear_layers(config, num_layers)?;
    attentions(&mut spec).for_each(|(_, attention)| attention.position = PositionSpec::None);
    attend_to_latents(&mut spec, config)?;
    attend_linearly(&mut spec, &linear, delta_net(config)?);
    deepseek_experts(&mut spec, config, sigmoid_router(config)?)?;
    Ok(spec)
}

/// The config with DeepSeek's names for what the release calls otherwise.
fn with_names_of_deepseek(config: &HfConfig) -> Result<HfConfig> {
    let size = |own, name, default| config.usize_or(config.first_of(&[own, name]), default);
    let shared = config.count_or(config.first_of(&["num_shared_experts", "n_shared_experts"]), 1)?;
    let named = json!({
        "max_position_embeddings": size("model_max_length", "max_position_embeddings", 1_048_576)?,
        "num_experts": size("num_experts", "num_local_experts", 256)?,
        "num_experts_per_tok": size("num_experts_per_token", "num_experts_per_tok", 8)?,
        "n_shared_experts": shared,
        "n_group": size("num_expert_group", "n_group", 1)?,
        "norm_topk_prob": config.bool_or(config.first_of(&["moe_renormalize", "norm_topk_prob"]), true)?,
        "scoring_func": config.str_or("moe_router_activation_func", "sigmoid")?,
    });
    let class_defaults = json!({
        "vocab_size": 163_840, "hidden_size": 2304, "intermediate_size": 9216, "moe_intermediate_size": 1024,
        "num_hidden_layers": 27, "num_attention_heads": 32, "routed_scaling_factor": 2.446, "kv_lora_rank": 512,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128, "rms_norm_eps": 1e-5,
        "first_k_dense_replace": 1
    });
    Ok(config.with(named).with_defaults(class_defaults))
}

/// As `layer_types` says, else as the release's lists do, which count layers from one.
fn linear_layers(config: &HfConfig, num_layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "linear_attn_config";
    let section = config.section(KEY)?;
    let lists = match &section {
        Some(section) => (section.usizes("kda_layers")?, section.usizes("full_attn_layers")?),
        None => (None, None),
    };
    let (Some(linear), Some(full)) = lists else {
        return layers_of_type(config, num_layers, "linear_attention", |layer| {
            layer == 0 || !layer.is_multiple_of(4)
        });
    };
    let is_in_one = |layer: usize| linear.contains(&(layer + 1)) != full.contains(&(layer + 1));
    if !(0..num_layers).all(is_in_one) {
        return Err(config.invalid(KEY, "lists of layers in which each is in one of the two"));
    }
    layers_of_type(config, num_layers, "linear_attention", |layer| linear.contains(&(layer + 1)))
}

fn delta_net(config: &HfConfig) -> Result<DeltaNetSpec> {
    if config.str_or("hidden_act", "silu")? != "silu" {
        return Err(config.invalid("hidden_act", "silu"));
    }
    let section = config.section("linear_attn_config")?;
    let size = |own: &str, key: &str, default: usize| {
        let in_section = section.as_ref().map(|section| section.optional_usize(own)).transpose()?.flatten();
        Ok::<_, sli_core::SliError>(in_section.unwrap_or(config.usize_or(key, default)?))
    };
    let num_heads = size("num_heads", "linear_num_heads", 32)?;
    let head_dim = size("head_dim", "linear_head_dim", 128)?;
    Ok(DeltaNetSpec {
        num_key_heads: num_heads,
        num_heads,
        key_dim: head_dim,
        value_dim: head_dim,
        conv_width: size("short_conv_kernel_size", "linear_conv_kernel_dim", 4)?,
        decay: StateDecay::PerChannel { rank: head_dim },
        write_scale: 1.0,
        norm: NormSpec::rms(config.f64("rms_norm_eps")?),
        gate: ReadGate { activation: Activation::Sigmoid, rank: Some(head_dim) },
    })
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    const LAYER: &str = "{prefix}layers.{layer}.";
    const EXPERTS: &str = "{prefix}layers.{layer}.block_sparse_moe.";
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    if let Some(mla) = latent_attention(spec) {
        latent_weights(stack, &format!("{LAYER}self_attn."), mla, false);
    }
    delta_names(stack, &format!("{LAYER}self_attn."));
    per_expert(stack, EXPERTS, "gate", ["w1", "w3", "w2"]);
    let correction = format!("{EXPERTS}gate.e_score_correction_bias");
    stack.tensor(TensorRole::RouterCorrection.weight(), &[&correction], &[]);
    shared_expert(stack, &format!("{EXPERTS}shared_experts."));
    // The class of the library does not tie its head, whatever the config says.
    if config.bool_or("tie_word_embeddings", false)? {
        let names = ["lm_head.weight", "{prefix}embed_tokens.weight"];
        map.head.tensor(TensorRole::LmHead.weight(), &names, &[]);
    }
    ignore_further_predictions(&mut map, config, spec)?;
    Ok(map)
}

fn delta_names(stack: &mut StackMap, base: &str) {
    use TensorRole::*;
    let names = [
        (DeltaQ, "q_proj"),
        (DeltaK, "k_proj"),
        (DeltaV, "v_proj"),
        (DeltaDecayDown, "f_a_proj"),
        (DeltaDecay, "f_b_proj"),
        (DeltaWrite, "b_proj"),
        (DeltaGateDown, "g_a_proj"),
        (DeltaGate, "g_b_proj"),
        (DeltaNorm, "o_norm"),
        (DeltaOut, "o_proj"),
    ];
    modules(stack, base, &names);
    for (role, name) in [(DeltaConvQ, "q_conv1d"), (DeltaConvK, "k_conv1d"), (DeltaConvV, "v_conv1d")] {
        stack.module_with(role, &format!("{base}{name}"), &[LoadOp::DropAxis(1)]);
    }
    // A is stored as [1, 1, heads, 1].
    decay_parameters(stack, base, &[LoadOp::DropAxis(0), LoadOp::DropAxis(0), LoadOp::DropAxis(1)]);
}
