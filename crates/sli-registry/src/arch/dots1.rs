//! dots.llm1 (rednote-hilab 2025): Qwen3's attention and DeepSeek-V3's experts.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::{llama, qwen2};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, norm_heads};
use crate::config::HfConfig;
use crate::experts::{deepseek_experts, deepseek_names, sigmoid_router};
use crate::maps::head_norms;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "dots1",
    family: Family::Moe,
    model_types: &["dots1"],
    architectures: &["Dots1ForCausalLM", "Dots1Model"],
    known_models: &[KnownModel::new(
        "dots.llm1 (142B)",
        "rednote-hilab/dots.llm1.base",
        "6 of 128 experts, 2 shared",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // This is how released configs call a sigmoid with a correction.
    let config = &match config.str_or("scoring_func", "noaux_tc")? {
        "noaux_tc" => config.with(json!({ "scoring_func": "sigmoid" })),
        _ => config.clone(),
    };
    let mut spec = llama::spec(config)?;
    let windowed = json!({ "use_sliding_window": true, "max_window_layers": 62 });
    let windows = qwen2::windows(&config.with_defaults(windowed), spec.num_layers())?;
    attentions(&mut spec).for_each(|(layer, attention)| attention.mask = windows[layer]);
    norm_heads(&mut spec);
    deepseek_experts(&mut spec, config, sigmoid_router(config)?)?;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    head_norms(&mut map.stacks[0]);
    deepseek_names(&mut map);
    Ok(map)
}
