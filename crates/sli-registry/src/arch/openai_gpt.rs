//! GPT (Radford et al. 2018): GPT-2 with the norms after each branch and none at the end.

use serde_json::json;
use sli_core::{Family, ModelSpec, Residual, Result, TensorRole, WeightMap};

use super::gpt2;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::layers;
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "openai_gpt",
    family: Family::Gpt,
    model_types: &["openai-gpt"],
    architectures: &["OpenAIGPTLMHeadModel", "OpenAIGPTModel", "OpenAIGPTDoubleHeadsModel"],
    known_models: &[KnownModel::new("GPT-1", "openai-community/openai-gpt", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // A setting of the tokenizer, and an old name of n_embd.
    config.ignore(&["n_special", "predict_special_tokens"]);
    // Here "gelu" means the tanh form.
    let activation = match config.str_or("afn", "gelu")? {
        "gelu" => "gelu_new",
        other => other,
    };
    let mut spec = gpt2::spec(&config.with(json!({ "activation_function": activation })))?;
    layers(&mut spec).for_each(|(_, block)| block.residual = Residual::PostNorm);
    spec.stacks[0].final_norm = None;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = gpt2::weights(config, spec)?;
    let names =
        [(TensorRole::TokenEmbedding, "tokens_embed"), (TensorRole::PositionEmbedding, "positions_embed")];
    modules(&mut map.stacks[0], "{prefix}", &names);
    if config.bool_or("tie_word_embeddings", true)? {
        map.head.tensor(TensorRole::LmHead.weight(), &["{prefix}tokens_embed.weight"], &[]);
    }
    Ok(map)
}
