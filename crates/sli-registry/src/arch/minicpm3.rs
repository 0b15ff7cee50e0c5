//! MiniCPM3 (OpenBMB 2024): MiniCPM with latent attention, whose rotations pair the halves of a head.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, WeightMap};

use super::{llama, minicpm};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::share_per_head;
use crate::config::HfConfig;
use crate::mla::{attend_to_latents, latent_attention, latent_weights, rotated_part};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "minicpm3",
    family: Family::Llama,
    model_types: &["minicpm3"],
    architectures: &["MiniCPM3ForCausalLM", "MiniCPM3Model"],
    known_models: &[KnownModel::new("MiniCPM3-4B", "openbmb/MiniCPM3-4B", "latent attention, longrope")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &config.with_defaults(json!({
        "rms_norm_eps": 1e-5,
        "q_lora_rank": 768,
        "kv_lora_rank": 256,
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32,
        "scale_emb": 12.0,
        "scale_depth": 1.4,
        "dim_model_base": 256.0,
    }));
    let hidden_size = config.usize("hidden_size")?;
    let value_dim = match config.optional_usize("v_head_dim")? {
        Some(value_dim) => value_dim,
        None => share_per_head(config, hidden_size, config.usize("num_attention_heads")?)?,
    };
    // A scale that is null changes nothing.
    let depth = (config.layers("num_hidden_layers")? as f64).sqrt();
    let config = &rotated_part(&config.with(json!({
        "scale_depth": config.f64_or("scale_depth", depth)?,
        "dim_model_base": config.f64_or("dim_model_base", hidden_size as f64)?,
        "v_head_dim": value_dim,
    })))?;
    let mut spec = llama::spec(config)?;
    minicpm::scale_by_depth_and_width(&mut spec, config)?;
    attend_to_latents(&mut spec, config)?;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    if let Some(mla) = latent_attention(spec) {
        latent_weights(&mut map.stacks[0], "{prefix}layers.{layer}.self_attn.", mla, false);
    }
    Ok(map)
}
