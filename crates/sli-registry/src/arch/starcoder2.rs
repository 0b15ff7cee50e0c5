//! StarCoder2 (Lozhkov et al. 2024): Llama with layer norms, biases everywhere, an MLP without gate, a sliding
//! window and a tied head.

use serde_json::json;
use sli_core::{Family, ModelSpec, NormSpec, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{remove_gates, set_norm, slide};
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "starcoder2",
    family: Family::Llama,
    model_types: &["starcoder2"],
    architectures: &["Starcoder2ForCausalLM", "Starcoder2Model"],
    known_models: &[KnownModel::new("StarCoder2-15B", "bigcode/starcoder2-15b", "sliding window of 4096")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // What is true of all releases, and settings of the first StarCoder.
    config.ignore(&["mlp_type", "norm_type", "layer_norm_epsilon", "scale_attn_weights"]);
    config.ignore(&["attention_softmax_in_fp32", "scale_attention_softmax_in_fp32"]);
    let bias = config.bool_or("use_bias", true)?;
    let defaults = json!({ "hidden_act": "gelu_pytorch_tanh", "attention_bias": bias, "mlp_bias": bias });
    let mut spec = llama::spec(&config.with_defaults(defaults))?;
    remove_gates(&mut spec);
    set_norm(&mut spec, NormSpec::layer(config.f64_or("norm_epsilon", 1e-5)?));
    slide(&mut spec, config)?;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    let names = [(TensorRole::MlpUp, "c_fc"), (TensorRole::MlpDown, "c_proj")];
    modules(&mut map.stacks[0], "{prefix}layers.{layer}.mlp.", &names);
    Ok(map)
}
