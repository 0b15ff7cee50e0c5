//! OLMo 3 (OLMo Team 2025): OLMo 2 with a sliding window in three of four layers, which are not stretched for long
//! contexts.

use serde_json::json;
use sli_core::{Family, ModelSpec, PositionSpec, Result, RopeScaling};

use super::{llama, olmo2};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::rope::rope_of_type;
use crate::windows::{all_but_every, slide_some};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "olmo3",
    family: Family::Llama,
    model_types: &["olmo3"],
    architectures: &["Olmo3ForCausalLM", "Olmo3Model"],
    known_models: &[KnownModel::new(
        "OLMo-3-32B",
        "allenai/Olmo-3-1125-32B",
        "yarn in layers without a window",
    )],
    spec,
    weights: olmo2::weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &config.with_defaults(json!({ "rms_norm_eps": 1e-5, "sliding_window": 4096 }));
    let mut spec = llama::spec(config)?;
    olmo2::norm_projections_and_branches(&mut spec);
    let sliding = slide_some(&mut spec, config, all_but_every(4))?;
    for (layer, attention) in attentions(&mut spec) {
        let PositionSpec::Rope(rope) = &mut attention.position else { continue };
        let kind = if sliding[layer] { "sliding_attention" } else { "full_attention" };
        match rope_of_type(config, kind, attention.head_dim)? {
            Some(given) => *rope = given,
            None if sliding[layer] => rope.scaling = RopeScaling::None,
            None => {}
        }
    }
    Ok(spec)
}
