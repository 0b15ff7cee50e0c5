//! Phi-3-small (Abdin et al. 2024): in most layers attention over blocks nearby and every so many before them, gates and
//! what they multiply within bounds, layer norms, biases, and constants from muP. The released code also hides the
//! logits of ids that its tokenizer never makes; which these are no config says.

use serde_json::json;
use sli_core::{
    ClampedMlpSpec, Family, Ffn, Mask, Mixer, ModelSpec, NormSpec, ProjectionBias, Result, TensorRole,
    WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, layers, set_norm};
use crate::config::HfConfig;
use crate::maps::Fused;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "phi3small",
    family: Family::Phi,
    model_types: &["phi3small"],
    architectures: &["Phi3SmallForCausalLM", "Phi3SmallModel"],
    known_models: &[KnownModel::new(
        "Phi-3-small-8k",
        "microsoft/Phi-3-small-8k-instruct",
        "blocksparse attention in every second layer",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How kernels cut up their work, and what acts in training only.
    config.ignore(&["blocksparse_triton_kernel_block_size", "pad_sequence_to_multiple_of_64"]);
    config.ignore(&["reorder_and_upcast_attn", "embedding_dropout_prob", "ffn_dropout_prob"]);
    config.ignore(&["attention_dropout_prob", "dummy_token_indices"]);
    let config = &with_class_defaults(config);
    if config.str("hidden_act")? != "gegelu" {
        return Err(config.invalid("hidden_act", "gegelu"));
    }
    let mut spec = llama::spec(&config.with(names_of_llama(config)?))?;
    set_norm(&mut spec, NormSpec::layer(config.f64("layer_norm_epsilon")?));
    let sparse = sparse_mask(config)?;
    let every = config.optional_usize("dense_attention_every_n_layers")?;
    let attn_multiplier = config.f64_or("mup_attn_multiplier", 1.0)?;
    let is_scaled = config.bool_or("mup_use_scaling", true)?;
    for (layer, attention) in attentions(&mut spec) {
        attention.bias = ProjectionBias::all(true);
        if is_scaled {
            attention.scale = attn_multiplier / attention.head_dim as f64;
        }
        if every.is_none_or(|every| !(layer + 1).is_multiple_of(every)) {
            attention.mask = sparse;
        }
    }
    let (limit, intermediate_size) = (config.f64_or("gegelu_limit", 20.0)?, mlp_width(config)?);
    for (_, block) in layers(&mut spec) {
        let mlp = ClampedMlpSpec { intermediate_size, limit, alpha: 1.702, bias: true };
        block.ffn = Some(Ffn::ClampedGatedMlp(mlp));
    }
    // Zero means one for both.
    let embedding_multiplier = config.optional_f64("mup_embedding_multiplier")?;
    spec.stacks[0].embedding.scale = embedding_multiplier.filter(|factor| *factor > 0.0);
    let width_multiplier = config.optional_f64("mup_width_multiplier")?.filter(|factor| *factor != 0.0);
    if let Some(head) = &mut spec.head {
        head.scale = width_multiplier.map(f64::recip);
    }
    Ok(spec)
}

fn with_class_defaults(config: &HfConfig) -> HfConfig {
    config.with_defaults(json!({
        "vocab_size": 100_352, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "max_position_embeddings": 8192, "ff_intermediate_size": 14_336,
        "hidden_act": "gegelu", "layer_norm_epsilon": 1e-5, "rope_embedding_base": 1e6,
        "dense_attention_every_n_layers": 2, "mup_embedding_multiplier": 10.0, "mup_width_multiplier": 8.0
    }))
}

fn names_of_llama(config: &HfConfig) -> Result<serde_json::Value> {
    if config.section("rope_scaling")?.is_some() {
        return Err(config.invalid("rope_scaling", "null: rotations that are stretched are not supported"));
    }
    let position_scale = config.f64_or("rope_position_scale", 1.0)?;
    let scaling = json!({ "type": "linear", "factor": position_scale });
    Ok(json!({
        "hidden_act": "silu",
        "intermediate_size": mlp_width(config)?,
        "rope_theta": config.f64("rope_embedding_base")?,
        "rope_scaling": if position_scale == 1.0 { json!(null) } else { scaling },
    }))
}

/// As given, else by the hidden size, perhaps rounded up.
fn mlp_width(config: &HfConfig) -> Result<usize> {
    let given = config.optional_usize("ff_intermediate_size")?;
    let multiplier = config.optional_usize("ff_dim_multiplier")?;
    let rounds_up = config.bool_or("gegelu_pad_to_256", true)?;
    Ok(match (given, multiplier) {
        (Some(width), _) => width,
        (None, Some(multiplier)) => {
            let width = (config.usize("hidden_size")? / 3 * 2).saturating_mul(multiplier);
            if rounds_up { width.next_multiple_of(256) } else { width }
        }
        (None, None) => return Err(config.invalid("ff_intermediate_size", "the width of the MLP")),
    })
}

fn sparse_mask(config: &HfConfig) -> Result<Mask> {
    let stride = config.usize_or("blocksparse_vert_stride", 8)?;
    let heads = config.usize("num_attention_heads")?;
    Ok(Mask::Strided {
        block: config.usize_or("blocksparse_block_size", 64)?,
        local: config.usize_or("blocksparse_num_local_blocks", 16)?,
        stride,
        shift: match config.bool_or("blocksparse_homo_head_pattern", false)? {
            true => 0,
            false => (stride / heads).max(1),
        },
    })
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnOut, AttnQ, AttnV, FinalNorm, MlpGate, MlpUp};
    const LAYER: &str = "{prefix}layers.{layer}.";
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    let stack = &mut map.stacks[0];
    stack.module(FinalNorm, "{prefix}final_layernorm").module(AttnOut, &format!("{LAYER}self_attn.dense"));
    let block = &spec.stacks[0].layers[0];
    if let Mixer::Attention(attention) = &block.mixer {
        // For each key head its queries, the key and the value.
        let (groups, head_dim) = (attention.num_kv_heads, attention.head_dim);
        let queries = attention.num_heads / groups * head_dim;
        Fused { groups, ..Fused::new(&format!("{LAYER}self_attn.query_key_value")) }
            .split(stack, &[(AttnQ, queries), (AttnK, head_dim), (AttnV, head_dim)]);
    }
    if let Some(Ffn::ClampedGatedMlp(mlp)) = &block.ffn {
        // Rows of gate and up take turns.
        Fused { groups: mlp.intermediate_size, ..Fused::new(&format!("{LAYER}mlp.up_proj")) }
            .split(stack, &[(MlpGate, 1), (MlpUp, 1)]);
    }
    Ok(map)
}
