//! MiMo-V2-Flash (Xiaomi 2026): DeepSeek-V3's experts without shared ones, values narrower than keys and scaled, and
//! windows with sinks, twice the key heads and a base of their own on five of six layers.

use serde_json::json;
use sli_core::{Family, KeyValues, Mask, ModelSpec, PositionSpec, Result, RopeSpec, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::experts::{deepseek_experts, deepseek_names, sigmoid_router};
use crate::rope::rope_of_type;
use crate::windows::sliding_layers;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "mimo_v2_flash",
    family: Family::Moe,
    model_types: &["mimo_v2_flash"],
    architectures: &["MiMoV2FlashForCausalLM", "MiMoV2FlashModel"],
    known_models: &[KnownModel::new(
        "MiMo-V2-Flash (309B)",
        "XiaomiMiMo/MiMo-V2-Flash",
        "8 of 256 experts; windows with sinks; fp8",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Windows said again, and what follows from the other sizes.
    config.ignore(&["attention_chunk_size", "hybrid_block_size", "n_shared_experts"]);
    let config = &config.with_defaults(json!({
        "head_dim": 192,
        "rms_norm_eps": config.f64_or("layernorm_epsilon", 1e-5)?,
        "rope_theta": 5e6,
        "partial_rotary_factor": 0.334,
    }));
    let num_layers = config.layers("num_hidden_layers")?;
    let sliding = sliding(config, num_layers)?;
    // The rotations of the layer types are read below.
    let mut spec = llama::spec(&config.with(json!({ "rope_parameters": null })))?;
    let window = window(config)?;
    let value_dim = config.usize_or("v_head_dim", 128)?;
    let unscaled = config.is_null("attention_value_scale");
    let scale = config.f64_or("attention_value_scale", if unscaled { 1.0 } else { 0.707 })?;
    let local_theta = config.f64_or("swa_rope_theta", 10_000.0)?;
    let local_kv_heads = config.optional_usize("swa_num_key_value_heads")?;
    for key in ["swa_head_dim", "swa_v_head_dim", "swa_num_attention_heads"] {
        let general = key.trim_start_matches("swa_");
        if config.optional_usize(key)?.is_some_and(|own| config.usize(general).is_ok_and(|it| it != own)) {
            return Err(config.invalid(key, &format!("the same as {general}")));
        }
    }
    let has_sinks = [
        config.bool_or("add_full_attention_sink_bias", false)?,
        config.bool_or("add_swa_attention_sink_bias", true)?,
    ];
    for (layer, attention) in attentions(&mut spec) {
        attention.value_dim = value_dim;
        attention.bias.output = false;
        attention.key_values = KeyValues::ScaledValues { scale };
        attention.sinks = has_sinks[usize::from(sliding[layer])];
        let mut kind = "full_attention";
        if sliding[layer] {
            kind = "sliding_attention";
            attention.mask = Mask::Sliding { window };
            attention.num_kv_heads = local_kv_heads.unwrap_or(2 * attention.num_kv_heads);
        }
        let PositionSpec::Rope(rope) = &mut attention.position else { continue };
        match rope_of_type(config, kind, attention.head_dim)? {
            Some(given) => *rope = given,
            None if sliding[layer] => *rope = RopeSpec { theta: local_theta, ..rope.clone() },
            None => {}
        }
    }
    deepseek_experts(&mut spec, &expert_layers(config, num_layers)?, sigmoid_router(config)?)?;
    Ok(spec)
}

/// Keys that a query sees in a window, its own included. Files that count those before it alone have another key.
fn window(config: &HfConfig) -> Result<usize> {
    match config.optional_usize("sliding_window_size")? {
        Some(before) => {
            config.ignore(&["sliding_window"]);
            Ok(before + 1)
        }
        None => config.usize_or("sliding_window", 129),
    }
}

/// Which layers have a window: a one in older files' pattern; all but the first and every sixth where none is given.
fn sliding(config: &HfConfig, num_layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "hybrid_layer_pattern";
    let Some(pattern) = flags(config, KEY)? else {
        return sliding_layers(config, num_layers, |layer| layer != 0 && !(layer + 1).is_multiple_of(6));
    };
    if pattern.len() != num_layers {
        return Err(config.invalid(KEY, "0 or 1 for each layer"));
    }
    Ok(pattern)
}

/// The kinds of feed-forward networks under the name that newer files have: all experts but the first by default.
fn expert_layers(config: &HfConfig, num_layers: usize) -> Result<HfConfig> {
    let sparse = match flags(config, "moe_layer_freq")? {
        Some(sparse) => sparse,
        None => (0..num_layers).map(|layer| layer != 0).collect(),
    };
    let types: Vec<_> = sparse.iter().map(|sparse| if *sparse { "sparse" } else { "dense" }).collect();
    Ok(config.with(json!({ "moe_layer_freq": null })).with_defaults(json!({ "mlp_layer_types": types })))
}

/// A list of zeros and ones.
fn flags(config: &HfConfig, key: &str) -> Result<Option<Vec<bool>>> {
    let Some(numbers) = config.f64s(key)? else { return Ok(None) };
    let flag = |number: f64| match number {
        0.0 => Ok(false),
        1.0 => Ok(true),
        _ => Err(config.invalid(key, "0 or 1 for each layer")),
    };
    numbers.into_iter().map(flag).collect::<Result<_>>().map(Some)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    deepseek_names(&mut map);
    let sinks = "{prefix}layers.{layer}.self_attn.attention_sink_bias";
    map.stacks[0].tensor(TensorRole::AttnSinks.weight(), &[sinks], &[]);
    map.ignored.push("{prefix}mtp.*".into());
    Ok(map)
}
