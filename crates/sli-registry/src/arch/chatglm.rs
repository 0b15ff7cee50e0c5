//! ChatGLM2, ChatGLM3, CodeGeeX2 and GLM-4-9B as first released (GLM Team 2024): the mathematics of `glm` under other
//! names, with queries, keys and values in one matrix. ChatGLM-6B goes by the same names and is another model.

use serde_json::json;
use sli_core::{Family, Ffn, HeadSpec, Mixer, ModelSpec, Result, StackMap, TensorRole, WeightMap};

use super::{chatglm_6b, llama};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, require};
use crate::config::HfConfig;
use crate::maps::{Fused, modules, neighbour_pairs};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "chatglm",
    family: Family::ChatGlm,
    model_types: &["chatglm"],
    architectures: &["ChatGLMModel", "ChatGLMForConditionalGeneration"],
    known_models: &[
        KnownModel::new("ChatGLM-6B", "THUDM/chatglm-6b", "a prompt seen as a whole, two rotations per head"),
        KnownModel::new("ChatGLM2-6B", "THUDM/chatglm2-6b", ""),
        KnownModel::new("ChatGLM3-6B", "THUDM/chatglm3-6b", ""),
        KnownModel::new("ChatGLM3-6B-32k", "THUDM/chatglm3-6b-32k", "rotary base 5e5"),
        KnownModel::new("CodeGeeX2-6B", "THUDM/codegeex2-6b", ""),
        KnownModel::new("GLM-4V-9B", "THUDM/glm-4v-9b", "text only"),
        KnownModel::new("CodeGeeX4-9B", "THUDM/codegeex4-all-9b", "rotary base 5e6"),
        KnownModel::new("GLM-4-9B (remote code)", "THUDM/glm-4-9b-chat", "rotary base 5e6"),
    ],
    spec,
    weights,
};

/// Is it the first version? Only the later ones name the width of the MLP so.
fn is_chatglm_6b(config: &HfConfig) -> bool {
    !config.has("ffn_hidden_size")
}

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    if is_chatglm_6b(config) {
        return chatglm_6b::spec(config);
    }
    // How products are scaled and rounded on the way to the same result.
    config.ignore(&[
        "apply_query_key_layer_scaling",
        "attention_softmax_in_fp32",
        "fp32_residual_connection",
    ]);
    // Fusions, parts of another task, and what the attention's own names say.
    config.ignore(&["bias_dropout_fusion", "pre_seq_len", "prefix_projection"]);
    if config.count_or("quantization_bit", 0)? != 0 {
        return Err(config.invalid("quantization_bit", "0: its own integer format is not supported"));
    }
    config.ignore(&["interleaved_qkv", "rotary_percent"]);
    // The tower of GLM-4V, and the tokens around a picture.
    config.ignore(&["vision_config", "boi_token_id", "eoi_token_id"]);
    require(config, "rmsnorm", true)?;
    require(config, "post_layer_norm", true)?;
    require(config, "original_rope", true)?;
    require(config, "apply_residual_connection_post_layernorm", false)?;
    require(config, "tie_word_embeddings", false)?;
    let vocab_size = config.usize(config.first_of(&["padded_vocab_size", "vocab_size"]))?;
    let num_heads = config.usize("num_attention_heads")?;
    let grouped = config.bool_or("multi_query_attention", false)?;
    let bias = config.bool_or("add_bias_linear", false)?;
    let renamed = json!({
        "vocab_size": vocab_size,
        "num_hidden_layers": config.layers(config.first_of(&["num_layers", "num_hidden_layers"]))?,
        "num_key_value_heads": if grouped { config.usize("multi_query_group_num")? } else { num_heads },
        "head_dim": config.usize("kv_channels")?,
        "intermediate_size": config.usize("ffn_hidden_size")?,
        "rms_norm_eps": config.f64_or("layernorm_epsilon", 1e-5)?,
        "rope_theta": 10_000.0 * config.f64_or("rope_ratio", 1.0)?,
        "partial_rotary_factor": 0.5,
        "max_position_embeddings": config.optional_usize("seq_length")?,
        "attention_bias": config.bool_or("add_qkv_bias", false)? || bias,
        "mlp_bias": bias,
    });
    let mut spec = llama::spec(&config.with(renamed))?;
    attentions(&mut spec).for_each(|(_, attention)| attention.bias.output = bias);
    // The class has a head, whatever its name ends in.
    spec.head = Some(HeadSpec::plain(vocab_size));
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    if is_chatglm_6b(config) {
        return chatglm_6b::weights(config, spec);
    }
    use TensorRole::*;
    let mut stack = StackMap::default();
    stack.module(TokenEmbedding, "{prefix}embedding.word_embeddings");
    stack.module(FinalNorm, "{prefix}encoder.final_layernorm");
    let names = [
        (MixerNorm, "input_layernorm"),
        (AttnOut, "self_attention.dense"),
        (FfnNorm, "post_attention_layernorm"),
        (MlpDown, "mlp.dense_4h_to_h"),
    ];
    modules(&mut stack, "{prefix}encoder.layers.{layer}.", &names);
    let block = &spec.stacks[0].layers[0];
    if let Mixer::Attention(attention) = &block.mixer {
        let (queries, keys) =
            (attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim);
        let name = "{prefix}encoder.layers.{layer}.self_attention.query_key_value";
        Fused { rope: &neighbour_pairs(spec), ..Fused::new(name) }
            .split(&mut stack, &[(AttnQ, queries), (AttnK, keys), (AttnV, keys)]);
    }
    if let Some(Ffn::GatedMlp(mlp)) = &block.ffn {
        let rows = mlp.intermediate_size;
        Fused::new("{prefix}encoder.layers.{layer}.mlp.dense_h_to_4h")
            .split(&mut stack, &[(MlpGate, rows), (MlpUp, rows)]);
    }
    let mut map =
        WeightMap { prefixes: vec!["transformer.", ""], stacks: vec![stack], ..WeightMap::default() };
    map.head.module(LmHead, "{prefix}output_layer");
    map.ignored.extend(["{prefix}rotary_pos_emb.inv_freq", "{prefix}vision.*"].map(String::from));
    Ok(map)
}
