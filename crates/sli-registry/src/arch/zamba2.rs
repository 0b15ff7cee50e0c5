//! Zamba2 (Zyphra 2024): Zamba with Mamba-2's mixer and some blocks of attention that take turns, with low-rank additions
//! for each of their uses.

use sli_core::{
    AdapterSpec, Family, GatedNormSpec, Mamba2Spec, Mixer, MlpSpec, ModelSpec, NormSpec, PositionSpec,
    Result, TensorRole, WeightMap,
};

use super::zamba::{Block, hybrid, hybrid_weights, informed_layers, joint_attention, pin_blocks};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{activation, share_per_head};
use crate::config::HfConfig;
use crate::maps::{Fused, modules};
use crate::rope::rope;
use crate::ssm::mamba2_names;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "zamba2",
    family: Family::Mamba,
    model_types: &["zamba2"],
    architectures: &["Zamba2ForCausalLM", "Zamba2Model"],
    known_models: &[
        KnownModel::new("Zamba2-7B", "Zyphra/Zamba2-7B", "two blocks of attention taking turns"),
        KnownModel::new(
            "Zamba2-1.2B/2.7B",
            "Zyphra/Zamba2-2.7B",
            "1.2B: additions to queries, keys and values",
        ),
    ],
    spec,
    weights,
};

/// Of what the scan reads, whatever the config says of the other norms.
const READ_NORM_EPS: f64 = 1e-5;

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How sums are computed, what follows from other sizes or is said again, and a bias that is always there.
    config.ignore(&["chunk_size", "use_mem_eff_path", "use_long_context", "use_conv_bias"]);
    config.ignore(&["hybrid_layer_ids", "attention_head_dim", "attention_hidden_size", "kv_channels"]);
    config.ignore(&["num_query_groups", "mamba_headdim"]);
    let hidden_size = config.usize("hidden_size")?;
    let num_layers = config.layers("num_hidden_layers")?;
    let informed = informed_layers(config, num_layers, |layer| RELEASED.contains(&layer))?;
    let bias = config.bool_or("add_bias_linear", false)?;

    let num_heads = config.usize_or("num_attention_heads", 32)?;
    let head_dim = share_per_head(config, 2 * hidden_size, num_heads)?;
    let mut attention = joint_attention(num_heads, head_dim);
    attention.num_kv_heads = config.usize_or("num_key_value_heads", num_heads)?;
    let rope = rope(config, head_dim)?;
    if config.bool_or("use_mem_rope", false)? {
        attention.position = PositionSpec::Rope(rope);
    }
    let mlp = MlpSpec {
        intermediate_size: config.usize_or("intermediate_size", 4 * hidden_size)?,
        activation: activation(config, "hidden_act", "gelu")?,
        bias,
    };
    let adapters = AdapterSpec {
        rank: config.usize_or("adapter_rank", 128)?,
        attention: config.bool_or("use_shared_attention_adapter", false)?,
    };
    let scan = Mixer::Mamba2(scan(config, hidden_size, bias)?);
    hybrid(config, &informed, &Block { attention, mlp, adapters: Some(adapters), scan })
}

/// The layers with attention where a config names none: those of the 2.7B model.
const RELEASED: [usize; 9] = [6, 12, 18, 24, 30, 36, 42, 47, 51];

fn scan(config: &HfConfig, hidden_size: usize, bias: bool) -> Result<Mamba2Spec> {
    let num_heads = config.usize_or("n_mamba_heads", 8)?;
    let inner_size = config.usize_or("mamba_expand", 2)? * hidden_size;
    Ok(Mamba2Spec {
        num_heads,
        head_dim: share_per_head(config, inner_size, num_heads)?,
        num_groups: config.usize_or("mamba_ngroups", 1)?,
        state_size: config.usize_or("mamba_d_state", 64)?,
        conv_width: config.usize_or("mamba_d_conv", 4)?,
        activation: sli_core::Activation::Silu,
        conv_bias: true,
        input_bias: bias,
        output_bias: bias,
        min_step: Some(config.f64_or("time_step_min", 1e-3)?),
        max_step: None,
        norm: Some(GatedNormSpec { norm: NormSpec::rms(READ_NORM_EPS), before_gate: false }),
        multipliers: None,
    })
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    const SHARED: &str = "{prefix}layers.{block}.shared_transformer.";
    let num_blocks = config.usize_or("num_mem_blocks", 1)?;
    let mut map = hybrid_weights(config, spec, num_blocks, "shared_transformer.")?;
    let stack = &mut map.stacks[0];
    mamba2_names(stack, "{prefix}layers.{layer}.{scan}mamba.");
    let informed = spec.stacks[0].layers.iter().find_map(|block| match &block.mixer {
        Mixer::InformedScan(informed) => Some(informed),
        _ => None,
    });
    let Some(informed) = informed else { return Ok(map) };
    let inner = informed.mlp.intermediate_size;
    let ffn = format!("{SHARED}feed_forward.");
    Fused::new(&format!("{ffn}gate_up_proj")).split(stack, &[(MlpGate, inner), (MlpUp, inner)]);
    stack.module(MlpDown, &format!("{ffn}down_proj"));
    // What several layers share ends here: additions are stored with the block and belong to one layer.
    pin_blocks(stack, config)?;
    let additions = [
        (QueryAdapterDown, "self_attn.linear_q_adapter_list.{use}.0"),
        (QueryAdapter, "self_attn.linear_q_adapter_list.{use}.1"),
        (KeyAdapterDown, "self_attn.linear_k_adapter_list.{use}.0"),
        (KeyAdapter, "self_attn.linear_k_adapter_list.{use}.1"),
        (ValueAdapterDown, "self_attn.linear_v_adapter_list.{use}.0"),
        (ValueAdapter, "self_attn.linear_v_adapter_list.{use}.1"),
        (MlpAdapterDown, "feed_forward.gate_up_proj_adapter_list.{use}.0"),
    ];
    modules(stack, SHARED, &additions);
    Fused::new(&format!("{ffn}gate_up_proj_adapter_list.{{use}}.1"))
        .split(stack, &[(GateAdapter, inner), (UpAdapter, inner)]);
    Ok(map)
}
