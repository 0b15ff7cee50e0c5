//! Gemma 3's language model (Gemma Team 2025): Gemma 2 with a norm on each head of queries and keys in place of caps,
//! five layers with a window for each without, and a rotation of its own for either kind. With two-sided attention it
//! is an encoder (EmbeddingGemma).

use serde_json::json;
use sli_core::{
    Family, Mask, ModelSpec, PositionSpec, Residual, Result, RopeScaling, RopeSpec, StackKind, TensorRole,
    WeightMap,
};

use super::{gemma2, llama};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, norm_heads, scale_embedding_by_root, set_residual};
use crate::config::HfConfig;
use crate::maps::{head_norms, offset_from_one};
use crate::rope::rope_of_type;
use crate::windows::{all_but_every, slide_some};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gemma3",
    family: Family::Gemma,
    model_types: &["gemma3_text"],
    architectures: &["Gemma3ForCausalLM", "Gemma3TextModel"],
    known_models: &[
        KnownModel::new("Gemma-3-1B", "google/gemma-3-1b-pt", "windows of 512"),
        KnownModel::new("MedGemma-27B", "google/medgemma-27b-text-it", ""),
        KnownModel::new("EmbeddingGemma-300M", "google/embeddinggemma-300m", "two-sided attention"),
    ],
    spec,
    weights,
};

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let defaults = json!({ "sliding_window": 4096, "rope_theta": 1e6 });
    let config = &config.with_defaults(defaults);
    let mut spec = llama::spec(&gemma2::names_of_llama(config)?)?;
    scale_embedding_by_root(&mut spec);
    set_residual(&mut spec, Residual::Sandwich);
    norm_heads(&mut spec);
    gemma2::scale_and_cap(&mut spec, config)?;
    let every =
        config.usize_or(config.first_of(&["sliding_window_pattern", "_sliding_window_pattern"]), 6)?;
    let sliding = slide_some(&mut spec, config, all_but_every(every))?;
    rotate_by_kind(&mut spec, config, &sliding)?;
    if config.bool_or("use_bidirectional_attention", false)? {
        look_both_ways(&mut spec);
    }
    Ok(spec)
}

/// Layers with a window turn by a base of their own and are not stretched.
fn rotate_by_kind(spec: &mut ModelSpec, config: &HfConfig, sliding: &[bool]) -> Result<()> {
    let local_theta = config.f64_or("rope_local_base_freq", 10_000.0)?;
    for (layer, attention) in attentions(spec) {
        let PositionSpec::Rope(rope) = &mut attention.position else { continue };
        let kind = if sliding[layer] { "sliding_attention" } else { "full_attention" };
        let local = RopeSpec { theta: local_theta, scaling: RopeScaling::None, ..rope.clone() };
        match rope_of_type(config, kind, attention.head_dim)? {
            Some(given) => *rope = given,
            None if sliding[layer] => *rope = local,
            None => {}
        }
    }
    Ok(())
}

/// Half of a window lies on either side of the query.
fn look_both_ways(spec: &mut ModelSpec) {
    spec.stacks[0].kind = StackKind::Encoder;
    for (_, attention) in attentions(spec) {
        attention.mask = match attention.mask {
            Mask::Sliding { window } => Mask::BidirectionalSliding { reach: window / 2 },
            _ => Mask::Bidirectional,
        };
    }
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = gemma2::weights(config, spec)?;
    head_norms(&mut map.stacks[0]);
    offset_from_one(&mut map.stacks[0], &[TensorRole::AttnQNorm, TensorRole::AttnKNorm]);
    Ok(map)
}
