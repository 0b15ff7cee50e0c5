//! EXAONE 3 and 3.5 (LG AI Research 2024): Llama under other names.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, StackMap, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "exaone",
    family: Family::Llama,
    model_types: &["exaone"],
    architectures: &["ExaoneForCausalLM", "ExaoneModel"],
    known_models: &[
        KnownModel::new("EXAONE-3.0-7.8B", "LGAI-EXAONE/EXAONE-3.0-7.8B-Instruct", ""),
        KnownModel::new("EXAONE-3.5-32B", "LGAI-EXAONE/EXAONE-3.5-32B-Instruct", "llama3 rotary scaling"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let renamed = json!({
        "num_hidden_layers": config.layers(config.first_of(&["num_layers", "num_hidden_layers"]))?,
        "hidden_act": config.str_or(config.first_of(&["activation_function", "hidden_act"]), "silu")?,
        "rms_norm_eps": config.f64_or(config.first_of(&["layer_norm_epsilon", "rms_norm_eps"]), 1e-5)?,
    });
    llama::spec(&config.with(renamed))
}

fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    modules(&mut stack, "{prefix}", &[(TokenEmbedding, "wte"), (FinalNorm, "ln_f")]);
    let names = [
        (MixerNorm, "ln_1"),
        (AttnQ, "attn.attention.q_proj"),
        (AttnK, "attn.attention.k_proj"),
        (AttnV, "attn.attention.v_proj"),
        (AttnOut, "attn.attention.out_proj"),
        (FfnNorm, "ln_2"),
        (MlpGate, "mlp.c_fc_0"),
        (MlpUp, "mlp.c_fc_1"),
        (MlpDown, "mlp.c_proj"),
    ];
    modules(&mut stack, "{prefix}h.{layer}.", &names);
    let mut map =
        WeightMap { prefixes: vec!["transformer.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}wte.weight"], "lm_head.weight");
    map.ignored.extend(
        ["{prefix}rotary.inv_freq", "{prefix}h.{layer}.attn.attention.rotary.inv_freq"].map(String::from),
    );
    Ok(map)
}
