//! XGLM (Lin et al. 2022): OPT with a scaled embedding and sinusoidal positions that count from 2.

use serde_json::json;
use sli_core::{Family, ModelSpec, Positions, Result, TensorRole, WeightMap};

use super::opt;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{require, scale_embedding_by_root};
use crate::config::HfConfig;
use crate::maps::lm_head;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "xglm",
    family: Family::Gpt,
    model_types: &["xglm"],
    architectures: &["XGLMForCausalLM", "XGLMModel"],
    known_models: &[KnownModel::new("XGLM-7.5B", "facebook/xglm-7.5B", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    require(config, "add_cross_attention", false)?;
    // The padding token's id is the index of a row of zeros, which positions of a text do not reach if it is small.
    if config.token_id("pad_token_id")?.is_some_and(|id| id as usize >= opt::UNUSED_POSITIONS) {
        return Err(config.invalid("pad_token_id", "less than the first position"));
    }
    let hidden_size = config.usize("d_model")?;
    let renamed = json!({
        "hidden_size": hidden_size,
        "num_hidden_layers": config.layers("num_layers")?,
        "num_attention_heads": config.usize("attention_heads")?,
        "activation_function": config.str_or("activation_function", "gelu")?,
    });
    let mut spec = opt::spec(&config.with(renamed))?;
    if config.bool_or("scale_embedding", true)? {
        scale_embedding_by_root(&mut spec);
    }
    // Positions are computed as far as a text goes.
    spec.max_length = None;
    let steps = (hidden_size / 2).saturating_sub(1);
    let positions = Positions::Sinusoidal { first: opt::UNUSED_POSITIONS, steps };
    spec.stacks[0].embedding.positions = Some(positions);
    Ok(spec)
}

fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    let mut stack = opt::stack_weights();
    stack.module(TensorRole::FinalNorm, "{prefix}layer_norm");
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}embed_tokens.weight"], "lm_head.weight");
    map.ignored.push("{prefix}embed_positions.weights".into());
    Ok(map)
}
