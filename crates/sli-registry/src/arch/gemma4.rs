//! Gemma 4's language model (Gemma Team 2026): Gemma 3 with norms that store their weight as it is, normed values, other
//! heads in the layers without a window (there also rotated by a few frequencies only, and perhaps with keys that are
//! values, too), a stored number that each layer is multiplied by, in the small models a vector per token and layer
//! and last layers that use the keys and values of earlier ones, and in the sparse one experts beside each MLP.

use serde_json::json;
use sli_core::{
    Family, Ffn, KeyValues, LayerInputSpec, Mask, ModelSpec, MoeSpec, PositionSpec, Residual, Result,
    RouterInput, RouterSpec, StackMap, TensorRole, WeightMap,
};

use super::gemma3;
use super::gemma3n::{add_layer_inputs, norm_values, share_key_values, within_gemma};
use super::multimodal::{text, with_head};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, layers};
use crate::config::HfConfig;
use crate::experts::{Fusion, experts_of, fused_experts, gated_experts};
use crate::maps::modules;
use crate::rope::rope_of_type;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gemma4",
    family: Family::Gemma,
    model_types: &["gemma4", "gemma4_text"],
    architectures: &["Gemma4ForConditionalGeneration", "Gemma4ForCausalLM", "Gemma4Model", "Gemma4TextModel"],
    known_models: &[
        KnownModel::new("Gemma-4-E2B", "google/gemma-4-E2B-it", "text only"),
        KnownModel::new("Gemma-4-E4B", "google/gemma-4-E4B-it", "text only"),
        KnownModel::new("Gemma-4-26B-A4B", "google/gemma-4-26B-A4B-it", "text only; experts beside each MLP"),
        KnownModel::new("Gemma-4-31B", "google/gemma-4-31B-it", "text only; keys are values in some layers"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    config.ignore(&["boi_token_id", "eoi_token_id", "boa_token_id", "eoa_token_id", "eoa_token_index"]);
    config.ignore(&["vision_soft_tokens_per_image"]);
    let config = &with_class_defaults(&text(config)?);
    // Between the tokens of a picture only, or everywhere.
    if config.str_or("use_bidirectional_attention", "vision")? != "vision" {
        return Err(config.invalid("use_bidirectional_attention", "vision"));
    }
    let as_gemma3 = json!({ "use_bidirectional_attention": null, "query_pre_attn_scalar": 1.0 });
    let mut spec = with_head(gemma3::spec(&config.with(as_gemma3))?)?;
    let softcap = config.optional_f64("final_logit_softcapping")?;
    if let Some(head) = &mut spec.head {
        head.softcap = softcap;
    }
    norm_values(&mut spec);
    let last = spec.num_layers() - 1;
    for (layer, attention) in attentions(&mut spec) {
        attention.scale = 1.0;
        // The last layer sees everything, whatever the config says.
        if layer == last {
            attention.mask = Mask::Causal;
        }
    }
    widen_full_layers(&mut spec, config)?;
    share_key_values(&mut spec, config)?;
    let input_width = config.count_or("hidden_size_per_layer_input", 256)?;
    let double_wide = config.bool_or("use_double_wide_mlp", false)?;
    for (_, block) in layers(&mut spec) {
        let reuses = matches!(&block.mixer, sli_core::Mixer::Attention(a) if !a.key_values.has_keys());
        let Some(Ffn::GatedMlp(mlp)) = &mut block.ffn else { continue };
        if double_wide && reuses {
            mlp.intermediate_size *= 2;
        }
        let input = LayerInputSpec { width: input_width, activation: mlp.activation };
        let input = (input_width > 0).then_some(input);
        block.residual = Residual::ScaledSandwich { input, beside: None };
    }
    if config.bool_or("enable_moe_block", false)? {
        add_experts(&mut spec, config)?;
    }
    config.ignore(&["num_experts", "top_k_experts", "moe_intermediate_size"]);
    config.ignore(&["vocab_size_per_layer_input"]);
    if input_width > 0 {
        add_layer_inputs(&mut spec, config, input_width)?;
    }
    Ok(spec)
}

/// Experts in each layer, with the MLP beside them.
fn add_experts(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let (num_experts, top_k) = (config.usize("num_experts")?, config.usize("top_k_experts")?);
    let intermediate_size = config.usize("moe_intermediate_size")?;
    for (_, block) in layers(spec) {
        let (Some(Ffn::GatedMlp(mlp)), Residual::ScaledSandwich { beside, .. }) =
            (&block.ffn, &mut block.residual)
        else {
            continue;
        };
        *beside = Some(*mlp);
        let router = RouterSpec {
            input: RouterInput::Stream { norm: block.norm },
            learned_scales: true,
            ..RouterSpec::softmax(top_k, true)
        };
        block.ffn = Some(Ffn::Moe(gated_experts(num_experts, router, *mlp, intermediate_size)));
    }
    Ok(())
}

fn with_class_defaults(text: &HfConfig) -> HfConfig {
    text.with_defaults(json!({
        "vocab_size": 262_144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
        "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 131_072,
        "sliding_window": 512, "sliding_window_pattern": 6, "vocab_size_per_layer_input": 262_144,
        "rope_parameters": {
            "sliding_attention": { "rope_type": "default", "rope_theta": 10_000.0 },
            "full_attention": {
                "rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0
            }
        }
    }))
}

/// Layers without a window have heads of another width and perhaps another number: as the section of a layer says, else
/// the keys for all of them.
fn widen_full_layers(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let sections = config.section("per_layer_config")?;
    let keys_are_values = config.bool_or("attention_k_eq_v", false)?;
    let all_head_dim = config.usize_or("global_head_dim", 512)?;
    let all_kv_heads = config.optional_usize("num_global_key_value_heads")?.filter(|_| keys_are_values);
    for (layer, attention) in attentions(spec) {
        let full = attention.mask == Mask::Causal;
        let section = sections.as_ref().map(|all| all.section(&layer.to_string())).transpose()?.flatten();
        let (head_dim, kv_heads) = match (&section, &sections) {
            (Some(own), _) => (own.optional_usize("head_dim")?, own.optional_usize("num_key_value_heads")?),
            (None, None) if full => (Some(all_head_dim), all_kv_heads),
            _ => (None, None),
        };
        if let Some(head_dim) = head_dim {
            (attention.head_dim, attention.value_dim) = (head_dim, head_dim);
        }
        attention.num_kv_heads = kv_heads.unwrap_or(attention.num_kv_heads);
        if full && let KeyValues::NormedValues { from_keys, .. } = &mut attention.key_values {
            *from_keys = keys_are_values;
        }
        let kind = if full { "full_attention" } else { "sliding_attention" };
        if let Some(rope) = rope_of_type(config, kind, attention.head_dim)? {
            attention.position = PositionSpec::Rope(rope);
        }
    }
    Ok(())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = within_gemma(config, spec)?;
    map.stacks[0].tensor(TensorRole::LayerScale.weight(), &["{prefix}layers.{layer}.layer_scalar"], &[]);
    if let Some(moe) = experts_of(spec) {
        expert_names(&mut map.stacks[0], moe);
    }
    Ok(map)
}

fn expert_names(stack: &mut StackMap, moe: &MoeSpec) {
    use TensorRole::{
        DenseNorm, DenseOutNorm, ExpertsOutNorm, FfnNorm, Router, RouterInputNorm, RouterScales,
    };
    const LAYER: &str = "{prefix}layers.{layer}.";
    let names = [
        (DenseNorm, "pre_feedforward_layernorm"),
        (DenseOutNorm, "post_feedforward_layernorm_1"),
        (FfnNorm, "pre_feedforward_layernorm_2"),
        (ExpertsOutNorm, "post_feedforward_layernorm_2"),
        (Router, "router.proj"),
    ];
    modules(stack, LAYER, &names);
    for (role, name) in [(RouterInputNorm, "scale"), (RouterScales, "per_expert_scale")] {
        stack.tensor(role.weight(), &[&format!("{LAYER}router.{name}")], &[]);
    }
    let [gate_up, down] = ["gate_up_proj", "down_proj"].map(|name| format!("{LAYER}experts.{name}"));
    fused_experts(stack, moe, Fusion::Rows, &gate_up, &down);
}
