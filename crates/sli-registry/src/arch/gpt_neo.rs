//! GPT-Neo (Black et al. 2021): GPT-2 with unscaled attention, a window on every second layer, no biases on queries,
//! keys and values, and matrices stored [out, in].

use serde_json::json;
use sli_core::{Family, Mask, ModelSpec, ProjectionBias, Result, TensorRole, WeightMap};

use super::gpt2;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gpt_neo",
    family: Family::Gpt,
    model_types: &["gpt_neo"],
    architectures: &["GPTNeoForCausalLM", "GPTNeoModel"],
    known_models: &[KnownModel::new("GPT-Neo-2.7B", "EleutherAI/gpt-neo-2.7B", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // `attention_layers` spells out what attention_types abbreviates.
    config.ignore(&["attention_types"]);
    let renamed = config.with(json!({
        "n_embd": config.usize("hidden_size")?,
        "n_positions": config.usize("max_position_embeddings")?,
        "n_layer": config.layers(config.first_of(&["num_layers", "num_hidden_layers"]))?,
        "n_head": config.usize(config.first_of(&["num_heads", "num_attention_heads"]))?,
        "n_inner": config.optional_usize("intermediate_size")?,
        "scale_attn_weights": false,
    }));
    let mut spec = gpt2::spec(&renamed)?;
    let window = config.usize_or("window_size", 256)?;
    let types = config.strs("attention_layers")?.unwrap_or_default();
    if types.len() != spec.num_layers() {
        return Err(config.invalid("attention_layers", "global or local for each layer"));
    }
    for (layer, attention) in attentions(&mut spec) {
        attention.bias = ProjectionBias { output: true, ..ProjectionBias::default() };
        attention.mask = match types[layer].as_str() {
            "global" => Mask::Causal,
            "local" => Mask::Sliding { window },
            _ => return Err(config.invalid("attention_layers", "global or local for each layer")),
        };
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnOut, AttnQ, AttnV, MlpDown, MlpUp};
    let mut map = gpt2::weights(config, spec)?;
    let names = [
        (AttnQ, "attn.attention.q_proj"),
        (AttnK, "attn.attention.k_proj"),
        (AttnV, "attn.attention.v_proj"),
        (AttnOut, "attn.attention.out_proj"),
        (MlpUp, "mlp.c_fc"),
        (MlpDown, "mlp.c_proj"),
    ];
    modules(&mut map.stacks[0], "{prefix}h.{layer}.", &names);
    let masks = ["{prefix}h.{layer}.attn.attention.bias", "{prefix}h.{layer}.attn.attention.masked_bias"];
    map.ignored.extend(masks.map(String::from));
    Ok(map)
}
