//! Qwen (Bai et al. 2023), the first version: the mathematics of Qwen2 under other names. Beyond `seq_length` it
//! changes its rotation and the temperature of its attention; samples end there.

use serde_json::json;
use sli_core::{Family, ModelSpec, ProjectionBias, Result, StackMap, TensorRole, WeightMap};

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
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Both act beyond seq_length only, where samples end.
    config.ignore(&["use_dynamic_ntk", "use_logn_attn", "max_position_embeddings"]);
    // Number formats, kernels, other inputs.
    config.ignore(&["bf16", "fp16", "fp32", "onnx_safe", "softmax_in_fp32", "use_cache_kernel"]);
    config.ignore(&["use_cache_quantization", "visual"]);
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
        "max_position_embeddings": config.usize("seq_length")?,
    });
    let mut spec = llama::spec(&config.with(renamed))?;
    attentions(&mut spec).for_each(|(_, attention)| attention.bias = ProjectionBias::qkv(true));
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
    map.ignored.extend(["{prefix}rotary_emb.inv_freq", "{prefix}visual.*"].map(String::from));
    Ok(map)
}
