//! Multimodal models, of which the language model is run, on text: each is one of the text architectures, in a config
//! and a checkpoint that also describe towers for pictures and sound.

use serde_json::json;
use sli_core::{Family, Ffn, HeadSpec, LoadOp, ModelSpec, Result, TensorRole, WeightMap};

use super::{mistral, qwen2, qwen3, qwen3_moe};
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;

pub(crate) const MISTRAL3: Architecture = Architecture {
    name: "mistral3",
    family: Family::Llama,
    model_types: &["mistral3"],
    architectures: &["Mistral3ForConditionalGeneration"],
    known_models: &[KnownModel::new(
        "Mistral-Small-3.1-24B",
        "mistralai/Mistral-Small-3.1-24B-Base-2503",
        "text only",
    )],
    spec: |config| with_head(mistral::spec(&text(config)?)?),
    weights: |config, spec| {
        within(&config.with_defaults(json!({ "tie_word_embeddings": true })), mistral::ARCHITECTURE, spec)
    },
};

pub(crate) const QWEN2_VL: Architecture = Architecture {
    name: "qwen2_vl",
    family: Family::Qwen,
    model_types: &["qwen2_vl", "qwen2_5_vl"],
    architectures: &["Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"],
    known_models: &[
        KnownModel::new("Qwen2-VL-72B", "Qwen/Qwen2-VL-72B-Instruct", "text only"),
        KnownModel::new("Qwen2.5-VL-72B", "Qwen/Qwen2.5-VL-72B-Instruct", "text only"),
    ],
    spec: |config| with_head(qwen2::spec(&text(config)?)?),
    weights: |config, spec| within(config, qwen2::ARCHITECTURE, spec),
};

pub(crate) const QWEN2_AUDIO: Architecture = Architecture {
    name: "qwen2_audio",
    family: Family::Qwen,
    model_types: &["qwen2_audio"],
    architectures: &["Qwen2AudioForConditionalGeneration"],
    known_models: &[KnownModel::new("Qwen2-Audio-7B", "Qwen/Qwen2-Audio-7B", "text only")],
    spec: qwen2_audio,
    weights: |config, spec| within(config, qwen2::ARCHITECTURE, spec),
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
    weights: |config, spec| within(config, qwen2::ARCHITECTURE, spec),
};

pub(crate) const QWEN3_VL: Architecture = Architecture {
    name: "qwen3_vl",
    family: Family::Qwen,
    model_types: &["qwen3_vl"],
    architectures: &["Qwen3VLForConditionalGeneration"],
    known_models: &[],
    spec: |config| with_head(qwen3::spec(&text(config)?)?),
    weights: |config, spec| within(config, qwen3::ARCHITECTURE, spec),
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
    weights: |config, spec| within(config, qwen3_moe::ARCHITECTURE, spec),
};

/// The part of a config that describes the language model. The older files have it at the top; in models that
/// also speak, it is inside the part called thinker.
fn text(config: &HfConfig) -> Result<HfConfig> {
    let thinker = config.section("thinker_config")?.unwrap_or_else(|| config.clone());
    for part in [config, &thinker] {
        part.ignore(&[
            "vision_config",
            "audio_config",
            "talker_config",
            "token2wav_config",
            "code2wav_config",
        ]);
        part.ignore(&["image_token_id", "image_token_index", "video_token_id", "video_token_index"]);
        part.ignore(&["audio_token_id", "audio_token_index", "audio_start_token_id", "audio_end_token_id"]);
        part.ignore(&["vision_start_token_id", "vision_end_token_id", "vision_token_id", "user_token_id"]);
        part.ignore(&["im_start_token_id", "im_end_token_id", "assistant_token_id", "system_token_id"]);
        part.ignore(&["tts_bos_token_id", "tts_eos_token_id", "tts_pad_token_id"]);
        part.ignore(&[
            "enable_audio_output",
            "enable_talker",
            "position_id_per_seconds",
            "seconds_per_chunk",
        ]);
        part.ignore(&["multimodal_projector_bias", "projector_hidden_act", "vision_feature_layer"]);
        part.ignore(&["spatial_merge_size", "is_encoder_decoder"]);
        // Said again in the section, or read with the head.
        part.ignore(&["vocab_size", "tie_word_embeddings"]);
    }
    thinker.text()
}

/// Whatever the class is called, there is a head.
fn with_head(mut spec: ModelSpec) -> Result<ModelSpec> {
    let vocab_size = spec.stacks[0].embedding.vocab_size;
    spec.head = Some(HeadSpec::plain(vocab_size));
    Ok(spec)
}

/// The text architecture's weights, where they lie among those of the towers. Whether the head is tied is said at
/// the top, else in the section; a head that is stored counts in any case.
fn within(config: &HfConfig, of_text: Architecture, spec: &ModelSpec) -> Result<WeightMap> {
    let text = text(config)?;
    let mut map = (of_text.weights)(&text.with(json!({ "tie_word_embeddings": false })), spec)?;
    map.prefixes = vec!["model.", "model.language_model.", "language_model.model.", "thinker.model."];
    let mut heads = vec!["lm_head.weight", "language_model.lm_head.weight", "thinker.lm_head.weight"];
    if config.bool_or("tie_word_embeddings", text.bool_or("tie_word_embeddings", false)?)? {
        heads.push("{prefix}embed_tokens.weight");
    }
    map.head.tensor(TensorRole::LmHead.weight(), &heads, &[]);
    for tower in ["visual", "vision_tower", "audio_tower", "multi_modal_projector"] {
        map.ignored.extend(["", "model.", "thinker."].map(|part| format!("{part}{tower}.*")));
    }
    map.ignored.extend(["talker.*", "token2wav.*", "code2wav.*"].map(String::from));
    Ok(map)
}

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
    use TensorRole::{ExpertDown, ExpertGate, ExpertUp};
    let mut map = within(config, qwen3_moe::ARCHITECTURE, spec)?;
    let moe = spec.stacks[0].layers.iter().find_map(|block| match &block.ffn {
        Some(Ffn::Moe(moe)) => Some(moe),
        _ => None,
    });
    let Some(moe) = moe else { return Ok(map) };
    let (select, inner) = (LoadOp::SelectExpert { count: moe.num_experts }, moe.expert.intermediate_size);
    for (role, start) in [(ExpertGate(0), 0), (ExpertUp(0), inner)] {
        let rows = LoadOp::TakeRows { groups: 1, block: 2 * inner, start };
        let name = "{prefix}layers.{layer}.mlp.experts.gate_up_proj";
        map.stacks[0].tensor(role.weight(), &[name], &[select, LoadOp::Transpose, rows]);
    }
    let name = "{prefix}layers.{layer}.mlp.experts.down_proj";
    map.stacks[0].tensor(ExpertDown(0).weight(), &[name], &[select, LoadOp::Transpose]);
    Ok(map)
}
