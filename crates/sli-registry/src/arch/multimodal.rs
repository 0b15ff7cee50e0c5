//! Multimodal models, of which the language model is run, on text: what their configs and checkpoints have in common.
//! Each is a text architecture within a config and a checkpoint that also describe towers for pictures and sound. The
//! towers' tensors are named by each architecture and ignored.

use serde_json::json;
use sli_core::{HeadSpec, ModelSpec, Result, TensorRole, WeightMap};

use crate::architecture::Architecture;
use crate::config::HfConfig;

/// The part of a config that describes the language model. The older files have it at the top; in models that
/// also speak, it is inside the part called thinker.
pub(super) fn text(config: &HfConfig) -> Result<HfConfig> {
    let thinker = config.section("thinker_config")?.unwrap_or_else(|| config.clone());
    for part in [config, &thinker] {
        // The towers and what joins them.
        part.ignore(&[
            "vision_config",
            "audio_config",
            "talker_config",
            "token2wav_config",
            "code2wav_config",
        ]);
        part.ignore(&["multimodal_projector_bias", "projector_hidden_act", "projector_layernorm_eps"]);
        part.ignore(&["vision_feature_layer", "vision_feature_select_strategy", "vision_aspect_ratio"]);
        part.ignore(&["image_grid_pinpoints", "image_seq_length", "spatial_merge_size", "downsample_ratio"]);
        part.ignore(&["position_id_per_seconds", "seconds_per_chunk", "scale_factor", "downsample_factor"]);
        part.ignore(&["adapter_layer_norm_eps", "enable_audio_output", "enable_talker"]);
        part.ignore(&["use_image_newline_parameter"]);
        // Tokens that stand for pictures and sound, and those of the conversation's format.
        part.ignore(&["image_token_id", "image_token_index", "video_token_id", "video_token_index"]);
        part.ignore(&["audio_token_id", "audio_token_index", "audio_start_token_id", "audio_end_token_id"]);
        part.ignore(&["vision_start_token_id", "vision_end_token_id", "vision_token_id", "user_token_id"]);
        part.ignore(&["im_start_token_id", "im_end_token_id", "assistant_token_id", "system_token_id"]);
        part.ignore(&["tts_bos_token_id", "tts_eos_token_id", "tts_pad_token_id"]);
        // Said again in the section, or read with the head.
        part.ignore(&["vocab_size", "hidden_size", "tie_word_embeddings"]);
    }
    thinker.text()
}

/// Whatever the class is called, there is a head.
pub(super) fn with_head(mut spec: ModelSpec) -> Result<ModelSpec> {
    let vocab_size = spec.stacks[0].embedding.vocab_size;
    spec.head = Some(HeadSpec::plain(vocab_size));
    Ok(spec)
}

/// The text architecture's weights, where they lie among those of the towers; the patterns of `towers` name what else
/// is stored. Whether the head is tied is said at the top, else in the section; a head that is stored counts in any
/// case.
pub(super) fn within(
    config: &HfConfig,
    of_text: &Architecture,
    spec: &ModelSpec,
    towers: &[&str],
) -> Result<WeightMap> {
    let text = text(config)?;
    let mut map = (of_text.weights)(&text.with(json!({ "tie_word_embeddings": false })), spec)?;
    map.prefixes = vec![
        "model.",
        "model.language_model.",
        "language_model.model.",
        "thinker.model.",
        "model.text_model.",
    ];
    let mut heads = vec!["lm_head.weight", "language_model.lm_head.weight", "thinker.lm_head.weight"];
    if config.bool_or("tie_word_embeddings", text.bool_or("tie_word_embeddings", false)?)? {
        heads.push("{prefix}embed_tokens.weight");
    }
    map.head.tensor(TensorRole::LmHead.weight(), &heads, &[]);
    map.ignored.extend(towers.iter().map(|pattern| (*pattern).to_string()));
    Ok(map)
}
