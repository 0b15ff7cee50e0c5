//! Models that join a tower for pictures or sound to one of the text architectures (Liu et al. 2023 and many since):
//! the config's section names the text architecture, which is looked up.

use serde_json::{Value, json};
use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::ARCHITECTURES;
use super::multimodal::{text, with_head, within};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::require;
use crate::config::HfConfig;

pub(crate) const LLAVA: Architecture = Architecture {
    name: "llava",
    family: Family::Llama,
    model_types: &[
        "llava",
        "llava_next",
        "llava_next_video",
        "llava_onevision",
        "video_llava",
        "vipllava",
        "internvl",
        "aya_vision",
        "voxtral",
    ],
    architectures: &[
        "LlavaForConditionalGeneration",
        "LlavaNextForConditionalGeneration",
        "LlavaNextVideoForConditionalGeneration",
        "LlavaOnevisionForConditionalGeneration",
        "VideoLlavaForConditionalGeneration",
        "VipLlavaForConditionalGeneration",
        "InternVLForConditionalGeneration",
        "AyaVisionForConditionalGeneration",
        "VoxtralForConditionalGeneration",
    ],
    known_models: &[
        KnownModel::new("LLaVA-1.5-13B", "llava-hf/llava-1.5-13b-hf", "text only"),
        KnownModel::new("LLaVA-NeXT-34B", "llava-hf/llava-v1.6-34b-hf", "text only"),
        KnownModel::new("LLaVA-OneVision-72B", "llava-hf/llava-onevision-qwen2-72b-ov-hf", "text only"),
        KnownModel::new("InternVL3-78B", "OpenGVLab/InternVL3-78B-hf", "text only"),
        KnownModel::new("Voxtral-Small-24B", "mistralai/Voxtral-Small-24B-2507", "text only"),
    ],
    spec: |config| {
        let text = section(config)?;
        with_head((of_text(&text)?.spec)(&text)?)
    },
    weights,
};

pub(crate) const MISTRAL3: Architecture = Architecture {
    name: "mistral3",
    architectures: &["Mistral3ForConditionalGeneration"],
    model_types: &["mistral3"],
    known_models: &[KnownModel::new(
        "Mistral-Small-3.1-24B",
        "mistralai/Mistral-Small-3.1-24B-Base-2503",
        "text only",
    )],
    weights: |config, spec| weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec),
    ..LLAVA
};

pub(crate) const SMOLVLM: Architecture = Architecture {
    name: "smolvlm",
    architectures: &["Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration"],
    model_types: &["idefics3", "smolvlm"],
    known_models: &[
        KnownModel::new("SmolVLM-Instruct", "HuggingFaceTB/SmolVLM-Instruct", "text only"),
        KnownModel::new("Idefics3-8B", "HuggingFaceM4/Idefics3-8B-Llama3", "text only"),
    ],
    ..LLAVA
};

/// Towers and what joins them, as they were first stored and as transformers 5 stores them.
const TOWERS: &[&str] = &[
    "vision_tower.*",
    "audio_tower.*",
    "image_tower.*",
    "video_tower.*",
    "multi_modal_projector.*",
    "image_newline",
    "model.vision_tower.*",
    "model.audio_tower.*",
    "model.image_tower.*",
    "model.video_tower.*",
    "model.vision_model.*",
    "model.connector.*",
    "model.multi_modal_projector.*",
    "model.image_newline",
];

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let section = section(config)?;
    // The class's own "not tied" is a default that gives way to what the section says.
    let tied =
        section.bool_or("tie_word_embeddings", false)? || config.bool_or("tie_word_embeddings", false)?;
    within(&config.with(json!({ "tie_word_embeddings": tied })), of_text(&section)?, spec, TOWERS)
}

/// What the config says of the text model.
fn section(config: &HfConfig) -> Result<HfConfig> {
    if !config.has("text_config") {
        return Err(config.invalid("text_config", "an object"));
    }
    let text = text(config)?;
    // Settings of Idefics' tower that its releases keep beside those of the text.
    text.ignore(&["perceiver_config", "pixel_shuffle_factor", "use_resampler", "is_llama_config"]);
    text.ignore(&["neftune_noise_alpha", "_flash_attn_2_enabled"]);
    config.ignore(&["image_seq_len"]);
    require(&text, "qk_layer_norms", false)?;
    Ok(with_class_defaults(config, text))
}

/// The architecture that the section names.
fn of_text(text: &HfConfig) -> Result<&'static Architecture> {
    let model_type = text.str("model_type")?;
    let found = ARCHITECTURES.iter().find(|architecture| architecture.model_types.contains(&model_type));
    found.ok_or_else(|| text.invalid("model_type", "a text model that is supported"))
}

/// What released sections leave out because the section's class, or the whole's, has it as a default.
fn with_class_defaults(config: &HfConfig, text: HfConfig) -> HfConfig {
    let of_whole = match config.model_type() {
        "mistral3" => json!({
            "model_type": "mistral", "head_dim": 128, "hidden_size": 5120, "intermediate_size": 32768,
            "max_position_embeddings": 131072, "num_attention_heads": 32, "num_hidden_layers": 40,
            "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e9, "vocab_size": 131072
        }),
        "voxtral" => json!({
            "model_type": "llama", "head_dim": 128, "hidden_size": 3072, "intermediate_size": 8192,
            "max_position_embeddings": 131072, "num_hidden_layers": 30, "num_key_value_heads": 8,
            "rms_norm_eps": 1e-5, "rope_theta": 1e8, "vocab_size": 131072
        }),
        "llava_onevision" | "internvl" => json!({ "model_type": "qwen2" }),
        "aya_vision" => json!({ "model_type": "cohere2" }),
        _ => json!({ "model_type": "llama" }),
    };
    let text = text.with_defaults(of_whole);
    let of_section = match text.str("model_type") {
        Ok("llama") => json!({
            "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 2048,
            "num_attention_heads": 32, "num_hidden_layers": 32, "vocab_size": 32000
        }),
        Ok("mistral") => json!({
            "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "sliding_window": 4096,
            "vocab_size": 32000
        }),
        Ok("qwen2") => json!({
            "hidden_size": 4096, "intermediate_size": 22016, "max_position_embeddings": 32768,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "vocab_size": 151936
        }),
        _ => Value::Null,
    };
    text.with_defaults(of_section)
}
