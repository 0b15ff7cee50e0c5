//! OLMo (Groeneveld et al. 2024): Llama with layer norms without weights, and, in one model, clipped projections.

use sli_core::{Family, ModelSpec, NormKind, NormSpec, Result};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, set_norm};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "olmo",
    family: Family::Llama,
    model_types: &["olmo"],
    architectures: &["OlmoForCausalLM", "OlmoModel"],
    known_models: &[KnownModel::new("OLMo-7B", "allenai/OLMo-7B-hf", "")],
    spec,
    weights: llama::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(config)?;
    // The class does not let the config choose the epsilon.
    set_norm(&mut spec, NormSpec { kind: NormKind::LayerUnweighted, eps: 1e-5 });
    let clip = config.optional_f64("clip_qkv")?;
    attentions(&mut spec).for_each(|(_, attention)| attention.clip = clip);
    Ok(spec)
}
