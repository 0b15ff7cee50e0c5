//! Qwen (Bai et al. 2023), the first version: the mathematics of Qwen2 under other names. Beyond `seq_length` it
//! stretches its rotation in steps and sharpens its attention by the logarithm of the position.

use serde_json::json;
use sli_core::{
    Family, ModelSpec, PositionSpec, ProjectionBias, Result, RopeScaling, StackMap, Temperature, TensorRole,
    WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, require};
use crate::config::HfConfig;
use crate::maps::{Fused, lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "qwen",
    family: Family::Qwen,
    model_types: &["qwen"],
    architectures: &["QWenLMHeadModel"],
    known_models: &[
        KnownModel::new("Qwen-7B/72B (v1)", "Qwen/Qwen-72B", ""),
        KnownModel::new("Qwen-VL", "Qwen/Qwen-VL", "text only"),
        KnownModel::new("Qwen-Audio", "Qwen/Qwen-Audio", "text only"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Number formats, kernels, other inputs.
    config.ignore(&["bf16", "fp16", "fp32", "onnx_safe", "softmax_in_fp32", "use_cache_kernel"]);
    config.ignore(&["use_cache_quantization", "visual", "audio"]);
    require(config, "no_bias", true)?;
    require(config, "scale_attn_weights", true)?;
    // The config counts gate and up together.
    let both = config.usize("intermediate_size")?;
    let renamed = json!({
        "intermediate_size": (both / 2).max(1),
        "head_dim": config.usize("kv_channels")?,
        "rms_norm_eps": config.f64_or("layer_norm_epsilon", 1e-6)?,
        "rope_theta": config.f64_or("rotary_emb_base", 10_000.0)?,
        "partial_rotary_factor": config.f64_or("rotary_pct", 1.0)?,
    });
    let mut spec = llama::spec(&config.with(renamed))?;
    let seq_length = config.usize("seq_length")?;
    let stretched = config.bool_or("use_dynamic_ntk", true)?;
    let sharpened = config.bool_or("use_logn_attn", true)?;
    // Where the released code's table of logarithms ends.
    const LOGARITHMS: usize = 32_767;
    spec.max_length = if sharpened { Some(LOGARITHMS) } else { Some(seq_length).filter(|_| !stretched) };
    for (_, attention) in attentions(&mut spec) {
        attention.bias = ProjectionBias::qkv(true);
        attention.temperature = sharpened.then_some(Temperature::LogLength { original_length: seq_length });
        if let (true, PositionSpec::Rope(rope)) = (stretched, &mut attention.position) {
            rope.scaling = RopeScaling::DynamicSteps { original_max_positions: seq_length };
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let hidden = spec.stacks[0].hidden_size;
    let mut stack = StackMap::default();
    modules(&mut stack, "{prefix}", &[(TokenEmbedding, "wte"), (FinalNorm, "ln_f")]);
    let names = [
        (MixerNorm, "ln_1"),
        (AttnOut, "attn.c_proj"),
        (FfnNorm, "ln_2"),
        (MlpGate, "mlp.w2"),
        (MlpUp, "mlp.w1"),
        (MlpDown, "mlp.c_proj"),
    ];
    modules(&mut stack, "{prefix}h.{layer}.", &names);
    Fused::new("{prefix}h.{layer}.attn.c_attn")
        .split(&mut stack, &[(AttnQ, hidden), (AttnK, hidden), (AttnV, hidden)]);
    let mut map = WeightMap { prefixes: vec!["transformer."], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    lm_head(&mut map, tied, &["{prefix}wte.weight"], "lm_head.weight");
    map.ignored
        .extend(["{prefix}rotary_emb.inv_freq", "{prefix}visual.*", "{prefix}audio.*"].map(String::from));
    Ok(map)
}
