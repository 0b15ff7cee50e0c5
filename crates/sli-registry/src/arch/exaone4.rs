//! EXAONE 4 (LG AI Research 2025): Llama with the norms on the output of each branch, norms on each head of queries
//! and keys, and, in the larger model, layers with a window and rotations beside layers with neither.

use serde_json::json;
use sli_core::{Family, Mask, ModelSpec, PositionSpec, Residual, Result, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, norm_heads, set_residual};
use crate::config::HfConfig;
use crate::maps::{head_norms, norm_branches};
use crate::windows::{all_but_every, slide_some};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "exaone4",
    family: Family::Llama,
    model_types: &["exaone4"],
    architectures: &["Exaone4ForCausalLM", "Exaone4Model"],
    known_models: &[
        KnownModel::new("EXAONE-4.0-32B", "LGAI-EXAONE/EXAONE-4.0-32B", "three of four layers with a window"),
        KnownModel::new("EXAONE-4.0-1.2B", "LGAI-EXAONE/EXAONE-4.0-1.2B", "no windows"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // `max_window_layers` is of an earlier export.
    let config = &config.with_defaults(json!({ "rms_norm_eps": 1e-5, "sliding_window": 4096 }));
    let mut spec = llama::spec(config)?;
    set_residual(&mut spec, Residual::BranchNorm);
    norm_heads(&mut spec);
    if config.optional_usize("sliding_window")?.is_none() {
        config.ignore(&["sliding_window_pattern", "layer_types"]);
        return Ok(spec);
    }
    slide_by_pattern(&mut spec, config)?;
    for (_, attention) in attentions(&mut spec).filter(|(_, attention)| attention.mask == Mask::Causal) {
        attention.position = PositionSpec::None;
    }
    Ok(spec)
}

/// A pattern of letters (`LLLG`: three layers with a window, then one without, repeated; the last layer never has
/// one) or the period of layers without.
fn slide_by_pattern(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    const KEY: &str = "sliding_window_pattern";
    match config.optional_usize(KEY) {
        Ok(period) => slide_some(spec, config, all_but_every(period.unwrap_or(4)))?,
        Err(_) => {
            let letters = config.str_or(KEY, "")?.as_bytes();
            if letters.is_empty() || letters.iter().any(|letter| !b"LG".contains(letter)) {
                return Err(config.invalid(KEY, "a number, or letters L and G"));
            }
            let last = spec.num_layers() - 1;
            slide_some(spec, config, |layer| layer != last && letters[layer % letters.len()] == b'L')?
        }
    };
    Ok(())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    head_norms(&mut map.stacks[0]);
    norm_branches(&mut map.stacks[0]);
    Ok(map)
}
