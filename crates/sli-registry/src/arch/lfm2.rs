//! LFM2 (Liquid AI 2025): Llama's blocks with a gated short convolution in place of most attentions, whose heads are
//! normed, and in LFM2-MoE many small experts after the first layers.

use serde_json::json;
use sli_core::{
    Family, Ffn, LoadOp, Mixer, ModelSpec, Result, RouterSpec, Scoring, ShortConvSpec, StackMap, TensorRole,
    WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, norm_heads};
use crate::config::{HfConfig, MAX_SIZE};
use crate::experts::{gated_experts, mix, per_expert};
use crate::layer_types::layers_of_type;
use crate::maps::{lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "lfm2",
    family: Family::Llama,
    model_types: &["lfm2"],
    architectures: &["Lfm2ForCausalLM", "Lfm2Model"],
    known_models: &[KnownModel::new("LFM2-1.2B", "LiquidAI/LFM2-1.2B", "6 of 16 layers attend")],
    spec,
    weights,
};

pub(crate) const MOE: Architecture = Architecture {
    name: "lfm2_moe",
    family: Family::Moe,
    model_types: &["lfm2_moe"],
    architectures: &["Lfm2MoeForCausalLM", "Lfm2MoeModel"],
    known_models: &[KnownModel::new("LFM2-8B-A1B", "LiquidAI/LFM2-8B-A1B", "4 of 32 experts")],
    spec: moe_spec,
    ..ARCHITECTURE
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = mixers(config)?;
    let inner = intermediate_size(config)?;
    for (_, block) in layers(&mut spec) {
        if let Some(Ffn::GatedMlp(mlp)) = &mut block.ffn {
            mlp.intermediate_size = inner;
        }
    }
    Ok(spec)
}

fn moe_spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = mixers(config)?;
    let (num_experts, inner) = (config.usize("num_experts")?, config.usize("moe_intermediate_size")?);
    let num_dense = config.count_or("num_dense_layers", 2)?;
    let router = RouterSpec {
        scoring: Scoring::Sigmoid,
        correction: config.bool_or("use_expert_bias", true)?,
        normalize: config.bool_or("norm_topk_prob", true)?.then_some(1e-6),
        scale: config.f64_or("routed_scaling_factor", 1.0)?,
        ..RouterSpec::softmax(config.usize("num_experts_per_tok")?, false)
    };
    mix(&mut spec, |layer| layer >= num_dense, |mlp| gated_experts(num_experts, router.clone(), mlp, inner));
    Ok(spec)
}

/// Llama with normed heads, and convolutions in the layers that do not attend.
fn mixers(config: &HfConfig) -> Result<ModelSpec> {
    // Names of what is read under others, and settings of the authors' own code.
    config.ignore(&["block_dim", "block_norm_eps", "block_use_swiglu", "block_mlp_init_scale", "num_heads"]);
    config.ignore(&["block_out_init_scale", "block_use_xavier_init", "conv_dim", "conv_dim_out"]);
    config.ignore(&["conv_use_xavier_init", "use_pos_enc", "theta"]);
    let eps = config.f64_or("norm_eps", 1e-5)?;
    let inner = config.usize(config.first_of(&["block_ff_dim", "intermediate_size"]))?;
    let read_by_llama = json!({ "rms_norm_eps": eps, "intermediate_size": inner });
    let config = &config.with(read_by_llama).with_defaults(json!({ "rope_theta": 1e6 }));
    let mut spec = llama::spec(config)?;
    norm_heads(&mut spec);
    let attending = config.usizes("full_attn_idxs")?;
    let convolves = |layer: usize| attending.as_ref().is_some_and(|attending| !attending.contains(&layer));
    let convolved = layers_of_type(config, spec.num_layers(), "conv", convolves)?;
    let convolution = ShortConvSpec {
        width: config.usize_or("conv_L_cache", 3)?,
        bias: config.bool_or("conv_bias", false)?,
    };
    for (layer, block) in layers(&mut spec) {
        if convolved[layer] {
            block.mixer = Mixer::ShortConv(convolution);
        }
    }
    Ok(spec)
}

/// Two thirds of what the config says, times a factor, rounded up to a multiple; or just what it says.
fn intermediate_size(config: &HfConfig) -> Result<usize> {
    let key = config.first_of(&["block_ff_dim", "intermediate_size"]);
    let stated = config.usize(key)?;
    let multiple = config.usize_or("block_multiple_of", 256)?;
    let factor = match config.has("block_ffn_dim_multiplier") {
        true => config.optional_f64("block_ffn_dim_multiplier")?,
        false => Some(1.0),
    };
    if !config.bool_or("block_auto_adjust_ff_dim", true)? {
        return Ok(stated);
    }
    let adjusted = 2 * stated / 3;
    let rounded = match factor {
        Some(factor) => ((factor * adjusted as f64) as usize).checked_next_multiple_of(multiple),
        None => Some(adjusted),
    };
    let possible = rounded.filter(|size| (1..=MAX_SIZE).contains(size));
    possible.ok_or_else(|| config.invalid(key, "a size of which something is left after it is adjusted"))
}

fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    const LAYER: &str = "{prefix}layers.{layer}.";
    const FFN: &str = "{prefix}layers.{layer}.feed_forward.";
    let mut stack = StackMap::default();
    stack.module(TokenEmbedding, "{prefix}embed_tokens").module(FinalNorm, "{prefix}embedding_norm");
    let names = [
        (MixerNorm, "operator_norm"),
        (FfnNorm, "ffn_norm"),
        (AttnQ, "self_attn.q_proj"),
        (AttnK, "self_attn.k_proj"),
        (AttnV, "self_attn.v_proj"),
        (AttnOut, "self_attn.out_proj"),
        (AttnQNorm, "self_attn.q_layernorm"),
        (AttnKNorm, "self_attn.k_layernorm"),
        (ConvIn, "conv.in_proj"),
        (ConvOut, "conv.out_proj"),
    ];
    modules(&mut stack, LAYER, &names);
    stack.module_with(ConvTaps, &format!("{LAYER}conv.conv"), &[LoadOp::DropAxis(1)]);
    modules(&mut stack, FFN, &[(MlpGate, "w1"), (MlpUp, "w3"), (MlpDown, "w2")]);
    per_expert(&mut stack, FFN, "gate", ["w1", "w3", "w2"]);
    stack.tensor(RouterCorrection.weight(), &[&format!("{FFN}expert_bias")], &[]);
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or(config.first_of(&["tie_embedding", "tie_word_embeddings"]), true)?;
    lm_head(&mut map, tied, &["{prefix}embed_tokens.weight"], "lm_head.weight");
    Ok(map)
}
