//! Arcee's AFM (Arcee 2025): Llama with a squared ReLU in an MLP without gate.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::remove_gates;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "arcee",
    family: Family::Llama,
    model_types: &["arcee"],
    architectures: &["ArceeForCausalLM", "ArceeModel"],
    known_models: &[KnownModel::new("AFM-4.5B", "arcee-ai/AFM-4.5B-Base", "yarn")],
    spec,
    weights: llama::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec =
        llama::spec(&config.with_defaults(json!({ "hidden_act": "relu2", "rms_norm_eps": 1e-5 })))?;
    remove_gates(&mut spec);
    Ok(spec)
}
