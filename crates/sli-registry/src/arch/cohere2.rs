//! Command R7B and Command A (Cohere 2024, 2025): Command R with rotations and a sliding window in three of four
//! layers, and neither in the fourth.

use serde_json::json;
use sli_core::{Family, ModelSpec, PositionSpec, Result};

use super::{cohere, llama};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::windows::{all_but_every, slide_some};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "cohere2",
    family: Family::Llama,
    model_types: &["cohere2"],
    architectures: &["Cohere2ForCausalLM", "Cohere2Model"],
    known_models: &[
        KnownModel::new("Command R7B", "CohereForAI/c4ai-command-r7b-12-2024", ""),
        KnownModel::new("Command A (111B)", "CohereForAI/c4ai-command-a-03-2025", ""),
    ],
    spec,
    weights: cohere::weights,
};

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // What the released configs say beside, which is the same in all of them.
    config.ignore(&["layer_switch", "order_of_interleaved_layers"]);
    config.ignore(&[
        "position_embedding_type",
        "rotary_pct",
        "use_embedding_sharing",
        "use_gated_activation",
    ]);
    config.ignore(&["use_parallel_block", "use_parallel_embedding"]);
    let config = &config.with_defaults(json!({ "sliding_window": 4096 }));
    let mut spec = llama::spec(config)?;
    cohere::join_branches(&mut spec, config)?;
    let every =
        config.usize_or(config.first_of(&["sliding_window_pattern", "_sliding_window_pattern"]), 4)?;
    let sliding = slide_some(&mut spec, config, all_but_every(every))?;
    for (_, attention) in attentions(&mut spec).filter(|(layer, _)| !sliding[*layer]) {
        attention.position = PositionSpec::None;
    }
    Ok(spec)
}
