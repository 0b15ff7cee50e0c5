//! BioGPT (Luo et al. 2022): OPT with a scaled embedding.

use serde_json::json;
use sli_core::{Family, ModelSpec, Positions, Result, TensorRole, WeightMap};

use super::opt;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::scale_embedding_by_root;
use crate::config::HfConfig;
use crate::maps::{lm_head, positions_after};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "biogpt",
    family: Family::Gpt,
    model_types: &["biogpt"],
    architectures: &["BioGptForCausalLM", "BioGptModel"],
    known_models: &[KnownModel::new("BioGPT-Large", "microsoft/BioGPT-Large", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // The class has an epsilon of its own.
    config.ignore(&["layer_norm_eps"]);
    let renamed = json!({
        "ffn_dim": config.usize("intermediate_size")?,
        "activation_function": config.str_or("hidden_act", "gelu")?,
    });
    let mut spec = opt::spec(&config.with(renamed))?;
    if config.bool_or("scale_embedding", true)? {
        scale_embedding_by_root(&mut spec);
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut stack = opt::stack_weights();
    stack.module(TensorRole::FinalNorm, "{prefix}layer_norm");
    let count = spec.stacks[0].embedding.positions.and_then(Positions::count).unwrap_or(0);
    positions_after(&mut stack, "{prefix}embed_positions", opt::UNUSED_POSITIONS, count);
    let mut map = WeightMap { prefixes: vec!["biogpt.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}embed_tokens.weight"], "output_projection.weight");
    map.ignored.extend(["score.*", "classifier.*"].map(String::from));
    Ok(map)
}
