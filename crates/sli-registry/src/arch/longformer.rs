//! Longformer (Beltagy et al. 2020): RoBERTa in which a token sees a window on either side. Tokens that see all others
//! are a choice of tasks, which have projections for them; of a text alone there are none, as in transformers.

use sli_core::{Family, Mask, ModelSpec, Result, WeightMap};

use super::roberta;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "longformer",
    family: Family::Encoder,
    model_types: &["longformer"],
    architectures: &["LongformerForMaskedLM", "LongformerModel"],
    known_models: &[
        KnownModel::new("Longformer-base", "allenai/longformer-base-4096", "256 tokens on either side"),
        KnownModel::new("Longformer-large", "allenai/longformer-large-4096", "256 tokens on either side"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How its graph is exported, and a switch for padding.
    config.ignore(&["onnx_export", "ignore_attention_mask"]);
    if config.str_or("attention_mode", "longformer")? != "longformer" {
        return Err(config.invalid("attention_mode", "longformer"));
    }
    let mut spec = roberta::spec(config)?;
    let reaches = reaches(config, spec.num_layers())?;
    for ((_, attention), reach) in attentions(&mut spec).zip(reaches) {
        attention.mask = Mask::BidirectionalSliding { reach };
    }
    Ok(spec)
}

/// How far a token sees to either side, layer by layer: half of what `attention_window` names, once or for each layer.
fn reaches(config: &HfConfig, num_layers: usize) -> Result<Vec<usize>> {
    const KEY: &str = "attention_window";
    let windows = match config.is_list(KEY) {
        true => config.usizes(KEY)?.unwrap_or_default(),
        false => vec![config.usize_or(KEY, 512)?; num_layers],
    };
    if windows.len() != num_layers || windows.iter().any(|window| *window == 0 || !window.is_multiple_of(2)) {
        return Err(config.invalid(KEY, "an even number, or one for each layer"));
    }
    Ok(windows.into_iter().map(|window| window / 2).collect())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = roberta::weights(config, spec)?;
    map.prefixes = vec!["longformer.", ""];
    let of_seeing_all = ["query_global", "key_global", "value_global"]
        .map(|name| format!("{{prefix}}encoder.layer.{{layer}}.attention.self.{name}.*"));
    map.ignored.extend(of_seeing_all);
    Ok(map)
}
