//! M2M-100 (Fan et al. 2020) and NLLB: mBART with sinusoidal positions that count from after the padding token's id,
//! without a norm of the embedding or a bias of the logits.

use serde_json::json;
use sli_core::{Family, ModelSpec, Positions, Result, WeightMap};

use super::{bart, mbart};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::norm_before;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "m2m_100",
    family: Family::T5,
    model_types: &["m2m_100"],
    architectures: &["M2M100ForConditionalGeneration", "M2M100Model"],
    known_models: &[
        KnownModel::new("M2M-100-1.2B", "facebook/m2m100_1.2B", ""),
        KnownModel::new("mBART-50 / NLLB-3.3B", "facebook/nllb-200-3.3B", "NLLB-200, 3.3B parameters"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &config.with_defaults(json!({ "scale_embedding": true, "activation_function": "relu" }));
    let mut spec = bart::encoder_decoder(&mbart::class_defaults(config))?;
    norm_before(&mut spec);
    let first = config.token_id("pad_token_id")?.unwrap_or(1) as usize + 1;
    for stack in &mut spec.stacks {
        let steps = (stack.hidden_size / 2).saturating_sub(1);
        stack.embedding.positions = Some(Positions::Sinusoidal { first, steps });
    }
    // Positions are computed as far as a text goes.
    spec.max_length = None;
    if let Some(head) = &mut spec.head {
        head.bias = false;
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = bart::weights(config, spec)?;
    // Tables that old checkpoints carry.
    let tables = ["{prefix}encoder.embed_positions.weights", "{prefix}decoder.embed_positions.weights"];
    map.ignored.extend(tables.map(String::from));
    Ok(map)
}
