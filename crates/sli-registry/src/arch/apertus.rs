//! Apertus (Project Apertus 2025): Llama with norms on each head of queries and keys, and an MLP without gate whose
//! activation has learned slopes.

use serde_json::json;
use sli_core::{Family, Ffn, ModelSpec, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, norm_heads, remove_gates, require};
use crate::config::HfConfig;
use crate::maps::{head_norms, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "apertus",
    family: Family::Llama,
    model_types: &["apertus"],
    architectures: &["ApertusForCausalLM", "ApertusModel"],
    known_models: &[KnownModel::new("Apertus-70B", "swiss-ai/Apertus-70B-2509", "")],
    spec,
    weights,
};

const XIELU: &str = "xielu";

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // The one way that the class has, written out in released configs.
    require(config, "qk_norm", true)?;
    require(config, "post_norm", false)?;
    let learned = config.str_or("hidden_act", XIELU)? == XIELU;
    let mut config = config.with_defaults(json!({ "rms_norm_eps": 1e-5, "rope_theta": 12e6 }));
    if !config.has("rope_scaling") && !config.has("rope_parameters") {
        config = config.with(json!({ "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        } }));
    }
    if learned {
        config = config.with(json!({ "hidden_act": "linear" }));
    }
    let mut spec = llama::spec(&config)?;
    norm_heads(&mut spec);
    remove_gates(&mut spec);
    for (_, block) in layers(&mut spec).filter(|_| learned) {
        if let Some(Ffn::Mlp(mlp)) = block.ffn {
            block.ffn = Some(Ffn::XieluMlp { intermediate_size: mlp.intermediate_size });
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnNorm, MixerNorm, XieluBeta, XieluEps, XieluNegative, XieluPositive};
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    head_norms(stack);
    let names = [(MixerNorm, "attention_layernorm"), (FfnNorm, "feedforward_layernorm")];
    modules(stack, "{prefix}layers.{layer}.", &names);
    let numbers =
        [(XieluPositive, "alpha_p"), (XieluNegative, "alpha_n"), (XieluBeta, "beta"), (XieluEps, "eps")];
    for (role, name) in numbers {
        stack.tensor(role.weight(), &[&format!("{{prefix}}layers.{{layer}}.mlp.act_fn.{name}")], &[]);
    }
    Ok(map)
}
