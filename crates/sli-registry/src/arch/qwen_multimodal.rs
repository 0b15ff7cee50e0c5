//! Qwen models that also see, hear or speak (Wang et al. 2024, Chu et al. 2024, Xu et al. 2025): the text of Qwen2,
//! Qwen3 or Qwen3 with experts. They rotate by time, height and width, which are all the position in a text.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::multimodal::{text, with_head, within};
use super::{qwen2, qwen3, qwen3_moe};
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::experts::{Fusion, experts_of, fused_experts};

pub(crate) const QWEN2_VL: Architecture = Architecture {
    name: "qwen2_vl",
    family: Family::Qwen,
    model_types: &["qwen2_vl", "qwen2_5_vl"],
    architectures: &["Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"],
    known_models: &[
        KnownModel::new("Qwen2-VL-72B", "Qwen/Qwen2-VL-72B-Instruct", "text only"),
        KnownModel::new("Qwen2.5-VL-72B", "Qwen/Qwen2.5-VL-72B-Instruct", "text only"),
    ],
    spec: |config| with_head(qwen2::spec(&text(config)?.with_defaults(json!({ "rms_norm_eps": 1e-5 })))?),
    weights: |config, spec| within(config, &qwen2::ARCHITECTURE, spec, VISUAL),
};

pub(crate) const QWEN2_AUDIO: Architecture = Architecture {
    name: "qwen2_audio",
    family: Family::Qwen,
    model_types: &["qwen2_audio"],
    architectures: &["Qwen2AudioForConditionalGeneration"],
    known_models: &[KnownModel::new("Qwen2-Audio-7B", "Qwen/Qwen2-Audio-7B", "text only")],
    spec: qwen2_audio,
    weights: |config, spec| {
        let towers = [
            "audio_tower.*",
            "multi_modal_projector.*",
            "model.audio_tower.*",
            "model.multi_modal_projector.*",
        ];
        within(config, &qwen2::ARCHITECTURE, spec, &towers)
    },
};

pub(crate) const QWEN2_5_OMNI: Architecture = Architecture {
    name: "qwen2_5_omni",
    family: Family::Qwen,
    model_types: &["qwen2_5_omni", "qwen2_5_omni_thinker"],
    architectures: &[
        "Qwen2_5OmniModel",
        "Qwen2_5OmniForConditionalGeneration",
        "Qwen2_5OmniThinkerForConditionalGeneration",
    ],
    known_models: &[KnownModel::new("Qwen2.5-Omni-7B", "Qwen/Qwen2.5-Omni-7B", "the thinker, text only")],
    spec: |config| with_head(qwen2::spec(&text(config)?)?),
    weights: |config, spec| within(config, &qwen2::ARCHITECTURE, spec, OMNI),
};

pub(crate) const QWEN3_VL: Architecture = Architecture {
    name: "qwen3_vl",
    family: Family::Qwen,
    model_types: &["qwen3_vl"],
    architectures: &["Qwen3VLForConditionalGeneration"],
    known_models: &[KnownModel::new("Qwen3-VL-8B", "Qwen/Qwen3-VL-8B-Instruct", "text only")],
    spec: |config| with_head(qwen3::spec(&text(config)?)?),
    weights: |config, spec| within(config, &qwen3::ARCHITECTURE, spec, VISUAL),
};

pub(crate) const QWEN3_VL_MOE: Architecture = Architecture {
    name: "qwen3_vl_moe",
    family: Family::Qwen,
    model_types: &["qwen3_vl_moe"],
    architectures: &["Qwen3VLMoeForConditionalGeneration"],
    known_models: &[KnownModel::new(
        "Qwen3-VL-235B-A22B",
        "Qwen/Qwen3-VL-235B-A22B-Instruct",
        "text only; the experts of a layer are one tensor",
    )],
    spec: |config| with_head(qwen3_moe::spec(&text(config)?)?),
    weights: qwen3_vl_moe_weights,
};

pub(crate) const QWEN3_OMNI_MOE: Architecture = Architecture {
    name: "qwen3_omni_moe",
    family: Family::Qwen,
    model_types: &["qwen3_omni_moe", "qwen3_omni_moe_thinker"],
    architectures: &["Qwen3OmniMoeForConditionalGeneration", "Qwen3OmniMoeThinkerForConditionalGeneration"],
    known_models: &[KnownModel::new(
        "Qwen3-Omni-30B-A3B",
        "Qwen/Qwen3-Omni-30B-A3B-Instruct",
        "the thinker, text only",
    )],
    spec: |config| with_head(qwen3_moe::spec(&text(config)?)?),
    weights: |config, spec| within(config, &qwen3_moe::ARCHITECTURE, spec, OMNI),
};

/// The tower of models that see, as it was first stored and as transformers 5 stores it.
const VISUAL: &[&str] = &["visual.*", "model.visual.*"];

/// The towers of the thinker, with and without its name, and the parts that speak.
const OMNI: &[&str] = &[
    "visual.*",
    "audio_tower.*",
    "model.visual.*",
    "model.audio_tower.*",
    "thinker.visual.*",
    "thinker.audio_tower.*",
    "talker.*",
    "token2wav.*",
    "code2wav.*",
];

/// The released config leaves out what is as in the class's defaults.
fn qwen2_audio(config: &HfConfig) -> Result<ModelSpec> {
    let defaults = json!({
        "vocab_size": 151936, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "intermediate_size": 22016, "max_position_embeddings": 32768
    });
    with_head(qwen2::spec(&text(config)?.with_defaults(defaults))?)
}

/// All experts of a layer in one tensor: gate and up [experts, hidden, 2 inner], down [experts, inner, hidden].
fn qwen3_vl_moe_weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    const BASE: &str = "{prefix}layers.{layer}.mlp.experts.";
    let mut map = within(config, &qwen3_moe::ARCHITECTURE, spec, VISUAL)?;
    if let Some(moe) = experts_of(spec) {
        let (gate_up, down) = (format!("{BASE}gate_up_proj"), format!("{BASE}down_proj"));
        fused_experts(&mut map.stacks[0], moe, Fusion::Columns, &gate_up, &down);
    }
    Ok(map)
}
