//! GPT-NeoX-Japanese (ABEJA 2022): GPT-NeoX with the branches in turn, whole heads rotated, and no biases but one: on
//! the output of the last layer's attention.

use serde_json::json;
use sli_core::{Family, ModelSpec, NormSpec, ProjectionBias, Result, TensorRole, WeightMap};

use super::{gpt_neox, llama};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, remove_gates, set_norm};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gpt_neox_japanese",
    family: Family::Gpt,
    model_types: &["gpt_neox_japanese"],
    architectures: &["GPTNeoXJapaneseForCausalLM", "GPTNeoXJapaneseModel"],
    known_models: &[KnownModel::new("GPT-NeoX-Japanese-2.7B", "abeja/gpt-neox-japanese-2.7b", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let multiple = config.f64_or("intermediate_multiple_size", 4.0)?;
    let inner = config.usize("hidden_size")? as f64 * multiple;
    let renamed = gpt_neox::names_of_llama(config, 1.0)?.with(json!({ "intermediate_size": inner as u64 }));
    let mut spec = llama::spec(&renamed)?;
    remove_gates(&mut spec);
    set_norm(&mut spec, NormSpec::layer(config.f64_or("layer_norm_eps", 1e-5)?));
    let last = spec.num_layers() - 1;
    for (layer, attention) in attentions(&mut spec) {
        attention.bias = ProjectionBias { output: layer == last, ..ProjectionBias::default() };
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let tied = config.bool_or("tie_word_embeddings", true)?;
    let mut map = gpt_neox::map(spec, &["gpt_neox_japanese.", ""], tied);
    let name = "{prefix}layers.{layer}.attention.dense_bias";
    map.stacks[0].tensor(TensorRole::AttnOut.bias(), &[name], &[]);
    Ok(map)
}
