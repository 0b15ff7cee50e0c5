//! OLMo 2 (OLMo Team 2024): Llama with the norms on the output of each branch, and norms over the whole projections
//! of queries and keys.

use serde_json::json;
use sli_core::{Family, Mixer, ModelSpec, QkNorm, Residual, Result, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, set_residual};
use crate::config::HfConfig;
use crate::maps::{head_norms, norm_branches};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "olmo2",
    family: Family::Llama,
    model_types: &["olmo2"],
    architectures: &["Olmo2ForCausalLM", "Olmo2Model"],
    known_models: &[
        KnownModel::new("OLMo-2-13B", "allenai/OLMo-2-1124-13B", ""),
        KnownModel::new("OLMo-2-32B", "allenai/OLMo-2-0325-32B", "8 key heads"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(&config.with_defaults(json!({ "rms_norm_eps": 1e-5 })))?;
    norm_projections_and_branches(&mut spec);
    Ok(spec)
}

/// Norms after each branch, and over the projections of queries and keys, in place of those before the branches.
pub(super) fn norm_projections_and_branches(spec: &mut ModelSpec) {
    set_residual(spec, Residual::BranchNorm);
    for (_, block) in layers(spec) {
        let norm = block.norm;
        if let Mixer::Attention(attention) = &mut block.mixer {
            attention.qk_norm = Some(QkNorm::Whole(norm));
        }
    }
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    head_norms(&mut map.stacks[0]);
    norm_branches(&mut map.stacks[0]);
    Ok(map)
}
