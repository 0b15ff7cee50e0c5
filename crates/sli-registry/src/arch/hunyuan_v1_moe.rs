//! Hunyuan with experts (Tencent 2025): the dense model's attention, and in every layer experts beside a network that all
//! tokens share. Sizes may be given for each layer.

use serde_json::json;
use sli_core::{Family, Ffn, ModelSpec, Result, RouterSpec, WeightMap};

use super::hunyuan_v1_dense;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, require};
use crate::config::HfConfig;
use crate::experts::{gated_experts, per_expert, shared_expert, shared_network};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "hunyuan_v1_moe",
    family: Family::Moe,
    model_types: &["hunyuan_v1_moe"],
    architectures: &["HunYuanMoEV1ForCausalLM", "HunYuanMoEV1Model"],
    known_models: &[KnownModel::new(
        "Hunyuan-A13B (80B)",
        "tencent/Hunyuan-A13B-Instruct",
        "8 of 64 experts, 1 shared",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How tokens were dropped in training, pictures, and what is said of kinds of attention and layers that are not used.
    config.ignore(&["moe_drop_tokens", "moe_random_routing_dropped_token", "capacity_factor"]);
    config.ignore(&["num_media_embeds", "skip_cls_token", "position_embedding_xdrope"]);
    config.ignore(&["anyres_pooling_size", "anyres_vit_max_image_size", "anyres_vit_two_views"]);
    config.ignore(&["vit_type", "vit_path", "vit_mapping_type", "vit_token", "vit_used_rms_norm"]);
    for unused in ["use_mla", "group_limited_greedy"] {
        require(config, unused, false)?;
    }
    require(config, "norm_topk_prob", true)?;
    if config.f64_or("routed_scaling_factor", 1.0)? != 1.0 {
        return Err(config.invalid("routed_scaling_factor", "1"));
    }
    if config.count_or("moe_layer_num_skipped", 0)? != 0 {
        return Err(config.invalid("moe_layer_num_skipped", "0: experts in every layer"));
    }
    let num_layers = config.layers("num_hidden_layers")?;
    let per_layer = |key, default| sizes_per_layer(config, key, num_layers, default);
    let num_experts = per_layer(config.first_of(&["num_experts", "num_local_experts"]), 1)?;
    let top_k = per_layer(config.first_of(&["moe_topk", "num_experts_per_tok"]), 1)?;
    let inner = per_layer("moe_intermediate_size", config.usize("intermediate_size")?)?;
    let num_shared = match config.bool_or("use_mixed_mlp_moe", true)? {
        true => Some(per_layer("num_shared_expert", 1)?),
        false => None,
    };
    let mut spec = hunyuan_v1_dense::spec(&config.with(json!({ "mlp_bias": false })))?;
    config.ignore(&["mlp_bias"]);
    for (layer, block) in layers(&mut spec) {
        if let Some(Ffn::GatedMlp(mlp)) = block.ffn {
            let router = RouterSpec::softmax(top_k[layer], true);
            let mut moe = gated_experts(num_experts[layer], router, mlp, inner[layer]);
            let count = num_shared.as_ref().map_or(0, |counts| counts[layer]);
            moe.shared = shared_network(mlp, count * mlp.intermediate_size);
            block.ffn = Some(Ffn::Moe(moe));
        }
    }
    Ok(spec)
}

/// A size that is the same in all layers, or a list with one for each.
fn sizes_per_layer(config: &HfConfig, key: &str, num_layers: usize, default: usize) -> Result<Vec<usize>> {
    if !config.is_list(key) {
        return Ok(vec![config.usize_or(key, default)?; num_layers]);
    }
    let sizes = config.usizes(key)?.unwrap_or_default();
    if sizes.len() < num_layers || sizes.contains(&0) {
        return Err(config.invalid(key, "a positive number for each layer"));
    }
    Ok(sizes)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    const BASE: &str = "{prefix}layers.{layer}.mlp.";
    let mut map = hunyuan_v1_dense::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    per_expert(stack, BASE, "gate.wg", ["gate_proj", "up_proj", "down_proj"]);
    shared_expert(stack, &format!("{BASE}shared_mlp."));
    Ok(map)
}
