//! RecurrentGemma (Botev et al. 2024): the Griffin architecture (De et al. 2024), two layers with a gated linear
//! recurrence for each with attention over a window, in Gemma's shape.

use half::bf16;
use serde_json::json;
use sli_core::{Family, LoadOp, Mask, Mixer, ModelSpec, Result, RgLruSpec, StackMap, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{activation, attentions, layers, require, set_mlp_bias};
use crate::config::HfConfig;
use crate::maps::{modules, norms_from_one};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "recurrent_gemma",
    family: Family::Gemma,
    model_types: &["recurrent_gemma"],
    architectures: &["RecurrentGemmaForCausalLM", "RecurrentGemmaModel"],
    known_models: &[
        KnownModel::new("RecurrentGemma-2B", "google/recurrentgemma-2b", "windows of 2048"),
        KnownModel::new("RecurrentGemma-9B", "google/recurrentgemma-9b", "windows of 2048"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Initial values, and a pattern that is said again.
    config.ignore(&["w_init_variance_scale", "final_w_init_variance_scale", "_block_types"]);
    require(config, "embeddings_scale_by_sqrt_dim", true)?;
    let config = &config.with_defaults(json!({
        "vocab_size": 256_000, "hidden_size": 2560, "intermediate_size": 7680, "num_hidden_layers": 26,
        "num_attention_heads": 10, "hidden_activation": "gelu_pytorch_tanh", "partial_rotary_factor": 0.5
    }));
    let as_llama = json!({
        "hidden_act": config.str("hidden_activation")?,
        // The width of gate and up together.
        "intermediate_size": config.usize("intermediate_size")? / 2,
    });
    let mut spec = llama::spec(&config.with(as_llama))?;
    set_mlp_bias(&mut spec, true);
    let window = config.usize_or("attention_window_size", 2048)?;
    for (_, attention) in attentions(&mut spec) {
        attention.mask = Mask::Sliding { window };
        attention.bias.output = true;
    }
    let recurrent = recurrent_layers(config, spec.num_layers())?;
    let lru = RgLruSpec {
        width: config.usize_or("lru_width", spec.stacks[0].hidden_size)?,
        num_blocks: config.usize("num_attention_heads")?,
        conv_width: config.usize_or("conv1d_width", 4)?,
        activation: activation(config, "hidden_activation", "gelu_pytorch_tanh")?,
    };
    for (layer, block) in layers(&mut spec) {
        if recurrent[layer] {
            block.mixer = Mixer::RgLru(lru);
        }
    }
    // Rounded whatever the weights are stored in.
    let scale = bf16::from_f64((spec.stacks[0].hidden_size as f64).sqrt());
    spec.stacks[0].embedding.scale = Some(scale.to_f64());
    let softcap = config.f64_or("logits_soft_cap", 30.0)?;
    if let Some(head) = &mut spec.head {
        head.softcap = Some(softcap);
    }
    Ok(spec)
}

/// Which layers have a recurrence, by a pattern that is repeated.
fn recurrent_layers(config: &HfConfig, num_layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "block_types";
    let pattern = match config.strs(KEY)? {
        Some(types) => types,
        None => ["recurrent", "recurrent", "attention"].map(String::from).to_vec(),
    };
    let is_recurrent = |kind: &String| match kind.as_str() {
        "recurrent" => Some(true),
        "attention" => Some(false),
        _ => None,
    };
    let pattern: Option<Vec<_>> = pattern.iter().map(is_recurrent).collect();
    match pattern.filter(|pattern| !pattern.is_empty()) {
        Some(pattern) => Ok(pattern.into_iter().cycle().take(num_layers).collect()),
        None => Err(config.invalid(KEY, "a list of recurrent and attention")),
    }
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    let stack = &mut map.stacks[0];
    let norms = [
        (MixerNorm, "layers.{layer}.temporal_pre_norm"),
        (FfnNorm, "layers.{layer}.channel_pre_norm"),
        (FinalNorm, "final_norm"),
    ];
    norms_from_one(stack, "{prefix}", &norms);
    let names = [
        (AttnQ, "temporal_block.q_proj"),
        (AttnK, "temporal_block.k_proj"),
        (AttnV, "temporal_block.v_proj"),
        (AttnOut, "temporal_block.o_proj"),
        (MlpGate, "mlp_block.gate_proj"),
        (MlpUp, "mlp_block.up_proj"),
        (MlpDown, "mlp_block.down_proj"),
        (LruGate, "temporal_block.linear_y"),
        (LruIn, "temporal_block.linear_x"),
        (LruOut, "temporal_block.linear_out"),
    ];
    modules(stack, "{prefix}layers.{layer}.", &names);
    recurrence(stack);
    Ok(map)
}

fn recurrence(stack: &mut StackMap) {
    use TensorRole::{LruConv, LruFade, LruFadeGate, LruInputGate};
    const BLOCK: &str = "{prefix}layers.{layer}.temporal_block.";
    stack.module_with(LruConv, &format!("{BLOCK}conv_1d"), &[LoadOp::DropAxis(1)]);
    for (key, name) in [
        (LruInputGate.weight(), "input_gate_weight"),
        (LruInputGate.bias(), "input_gate_bias"),
        (LruFadeGate.weight(), "recurrent_gate_weight"),
        (LruFadeGate.bias(), "recurrent_gate_bias"),
        (LruFade.weight(), "recurrent_param"),
    ] {
        stack.tensor(key, &[&format!("{BLOCK}rg_lru.{name}")], &[]);
    }
}
