//! Granite 3 (IBM 2024): Llama with multipliers on the embedding, the branches, the scores and the logits.

use sli_core::{Family, ModelSpec, Residual, Result};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, set_residual};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "granite",
    family: Family::Llama,
    model_types: &["granite"],
    architectures: &["GraniteForCausalLM", "GraniteModel"],
    known_models: &[
        KnownModel::new("Granite-3.0-8B", "ibm-granite/granite-3.0-8b-base", ""),
        KnownModel::new("Granite-3.3-8B", "ibm-granite/granite-3.3-8b-base", ""),
    ],
    spec,
    weights: llama::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(config)?;
    multiply(&mut spec, config)?;
    Ok(spec)
}

/// The multipliers.
pub(super) fn multiply(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    spec.stacks[0].embedding.scale = Some(config.f64_or("embedding_multiplier", 1.0)?);
    set_residual(spec, Residual::ScaledPreNorm { scale: config.f64_or("residual_multiplier", 1.0)? });
    let scale = config.f64_or("attention_multiplier", 1.0)?;
    attentions(spec).for_each(|(_, attention)| attention.scale = scale);
    let divisor = config.f64_or("logits_scaling", 1.0)?;
    if divisor == 0.0 {
        return Err(config.invalid("logits_scaling", "a divisor that is not zero"));
    }
    if let Some(head) = &mut spec.head {
        head.scale = Some(divisor.recip());
    }
    Ok(())
}
