//! umT5 (Chung et al. 2023): T5 v1.1 with a table of distances in each layer, and a scaled output.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, TensorRole, WeightMap};

use super::t5;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "umt5",
    family: Family::T5,
    model_types: &["umt5"],
    architectures: &["UMT5ForConditionalGeneration", "UMT5Model", "UMT5EncoderModel"],
    known_models: &[KnownModel::new("uMT5-XXL", "google/umt5-xxl", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    config.ignore(&["tie_word_embeddings", "scalable_attention"]);
    let config = config.with_defaults(json!({ "feed_forward_proj": "gated-gelu" }));
    t5::spec(&config.with(json!({ "scale_decoder_outputs": true })))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = t5::weights(config, spec)?;
    for (stack, side) in map.stacks.iter_mut().zip(["encoder", "decoder"]) {
        let name = format!("{side}.block.{{layer}}.layer.0.SelfAttention.relative_attention_bias.weight");
        stack.tensor(TensorRole::RelativeBias.weight(), &[&name], &[]);
    }
    Ok(map)
}
