//! Multi-head latent attention, as DeepSeek's configs and checkpoints describe it.

use serde_json::json;
use sli_core::{
    IndexerSpec, LoadOp, Mixer, MlaSpec, ModelSpec, NormSpec, PositionSpec, Result, StackMap, TensorRole,
};

use crate::blocks::layers;
use crate::config::HfConfig;

/// The config with the head dimension by which rotations are described: that of the rotated part.
pub(crate) fn rotated_part(config: &HfConfig) -> Result<HfConfig> {
    // What follows from other sizes.
    config.ignore(&["qk_head_dim", "head_dim", "num_key_value_heads"]);
    let rotary_dim = config.usize("qk_rope_head_dim")?;
    let heads = config.usize("num_attention_heads")?;
    Ok(config.with(json!({ "head_dim": rotary_dim, "num_key_value_heads": heads })))
}

/// Latent attention in place of all attentions, with their rotations.
pub(crate) fn attend_to_latents(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    // Whatever the config says of the other norms.
    const LATENT_NORM_EPS: f64 = 1e-6;
    let (rotary_dim, content_dim) = (config.usize("qk_rope_head_dim")?, config.usize("qk_nope_head_dim")?);
    let mla = MlaSpec {
        num_heads: config.usize("num_attention_heads")?,
        query_rank: config.optional_usize("q_lora_rank")?,
        latent_rank: config.usize("kv_lora_rank")?,
        content_dim,
        rotary_dim,
        value_dim: config.usize("v_head_dim")?,
        scale: ((rotary_dim + content_dim) as f64).powf(-0.5) * stretched_scale(config)?,
        rope: None,
        norm: NormSpec::rms(LATENT_NORM_EPS),
        latent_scales: [1.0; 2],
        bias: config.bool_or("attention_bias", false)?,
        indexer: None,
    };
    for (_, block) in layers(spec) {
        if let Mixer::Attention(attention) = &block.mixer {
            let rope = match &attention.position {
                PositionSpec::Rope(rope) => Some(rope.clone()),
                _ => None,
            };
            block.mixer = Mixer::Mla(MlaSpec { rope, ..mla.clone() });
        }
    }
    Ok(())
}

/// An indexer for every latent attention.
pub(crate) fn index_keys(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    const NORM_EPS: f64 = 1e-6;
    if let Some(types) = config.strs("layer_types")?
        && types.iter().any(|kind| kind != "indexed_attention")
    {
        return Err(config.invalid("layer_types", "indexed_attention for each layer"));
    }
    if let Some(types) = config.strs("indexer_types")?
        && types.iter().any(|kind| kind != "full")
    {
        return Err(config.invalid("indexer_types", "full for each layer: shared choices are not supported"));
    }
    let indexer = IndexerSpec {
        num_heads: config.usize("index_n_heads")?,
        head_dim: config.usize("index_head_dim")?,
        top_k: config.usize("index_topk")?,
        norm: NormSpec::layer(NORM_EPS),
    };
    for (_, block) in layers(spec) {
        if let Mixer::Mla(mla) = &mut block.mixer {
            mla.indexer = Some(indexer.clone());
        }
    }
    Ok(())
}

/// Stretched rotations also sharpen the softmax: by (0.1 m ln(factor) + 1)^2, with m from `mscale_all_dim`.
fn stretched_scale(config: &HfConfig) -> Result<f64> {
    let section = match config.section("rope_scaling")? {
        Some(section) => Some(section),
        None => config.section("rope_parameters")?,
    };
    let Some(section) = section else { return Ok(1.0) };
    if section.str_or(section.first_of(&["rope_type", "type"]), "default")? == "default" {
        section.ignore(&["mscale_all_dim", "mscale"]);
        return Ok(1.0);
    }
    let m = section.f64_or("mscale_all_dim", 0.0)?;
    let factor = section.f64_or("factor", 1.0)?;
    Ok(if m != 0.0 && factor > 1.0 { (0.1 * m * factor.ln() + 1.0).powi(2) } else { 1.0 })
}

/// The projections of latent attention under `base`. `pairs` says whether rotations pair neighbouring dimensions.
pub(crate) fn latent_weights(map: &mut StackMap, base: &str, mla: &MlaSpec, pairs: bool) {
    use TensorRole::*;
    let MlaSpec { num_heads, latent_rank, content_dim, rotary_dim, value_dim, .. } = *mla;
    let unpaired = |head_dim| pairs.then_some(LoadOp::UnpermuteRope { head_dim, rotary_dim });
    let steps = |ops: &[Option<LoadOp>]| ops.iter().copied().flatten().collect::<Vec<_>>();

    let head_dim = mla.head_dim();
    let ordered = LoadOp::LastFirst { block: head_dim, last: rotary_dim };
    let query = if mla.query_rank.is_some() { "q_b_proj" } else { "q_proj" };
    map.module_with(MlaQuery, &format!("{base}{query}"), &steps(&[Some(ordered), unpaired(head_dim)]));
    for (role, name) in [
        (MlaQueryDown, "q_a_proj"),
        (MlaQueryNorm, "q_a_layernorm"),
        (MlaLatentNorm, "kv_a_layernorm"),
        (AttnOut, "o_proj"),
    ] {
        map.module(role, &format!("{base}{name}"));
    }
    // The latent and then the rotated key that all heads share.
    let part = |start| LoadOp::TakeRows { groups: 1, block: latent_rank + rotary_dim, start };
    let latent = format!("{base}kv_a_proj_with_mqa");
    map.module_with(MlaLatent, &latent, &[part(0)]);
    map.module_with(MlaRotaryKey, &latent, &steps(&[Some(part(latent_rank)), unpaired(rotary_dim)]));
    // Per head the key and then the value.
    let part = |start| LoadOp::TakeRows { groups: num_heads, block: content_dim + value_dim, start };
    map.module_with(MlaKey, &format!("{base}kv_b_proj"), &[part(0)]);
    map.module_with(MlaValue, &format!("{base}kv_b_proj"), &[part(content_dim)]);
}

/// The indexer's projections under `base`.
pub(crate) fn index_weights(map: &mut StackMap, base: &str, mla: &MlaSpec, pairs: bool) {
    use TensorRole::{IndexKey, IndexKeyNorm, IndexQuery, IndexWeights};
    let Some(indexer) = &mla.indexer else { return };
    let (head_dim, rotary_dim) = (indexer.head_dim, mla.rotary_dim);
    let ops: &[LoadOp] = if pairs { &[LoadOp::UnpermuteRope { head_dim, rotary_dim }] } else { &[] };
    map.module_with(IndexQuery, &format!("{base}wq_b"), ops)
        .module_with(IndexKey, &format!("{base}wk"), ops)
        .module_with(IndexKeyNorm, &format!("{base}k_norm"), ops)
        .module(IndexWeights, &format!("{base}weights_proj"));
}

/// The first latent attention of a model.
pub(crate) fn latent_attention(spec: &ModelSpec) -> Option<&MlaSpec> {
    spec.stacks.iter().flat_map(|stack| &stack.layers).find_map(|block| match &block.mixer {
        Mixer::Mla(mla) => Some(mla),
        _ => None,
    })
}
