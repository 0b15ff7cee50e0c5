//! Hunyuan dense (Tencent 2025): Llama with a norm on each head of queries and keys, after the rotation, and a base
//! of the rotation that is raised once and for all.

use serde_json::json;
use sli_core::{Family, Mixer, ModelSpec, QkNorm, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, require};
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "hunyuan_v1_dense",
    family: Family::Llama,
    model_types: &["hunyuan_v1_dense"],
    architectures: &["HunYuanDenseV1ForCausalLM", "HunYuanDenseV1Model"],
    known_models: &[KnownModel::new("Hunyuan-7B", "tencent/Hunyuan-7B-Instruct", "")],
    spec,
    weights,
};

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Further special tokens, the sizes of other tasks' heads, and a second name of head_dim.
    config.ignore(&["eod_token_id", "im_end_id", "im_newline_id", "im_start_id", "text_end_id"]);
    config.ignore(&["text_start_id", "sep_token_id", "mask_init_id", "pad_id", "org_vocab_size"]);
    config.ignore(&["class_num", "pool_type", "dense_list", "add_classification_head"]);
    config.ignore(&["cla_share_factor", "norm_type"]);
    require(config, "use_cla", false)?;
    require(config, "use_rotary_pos_emb", true)?;
    let key = config.first_of(&["head_dim", "attention_head_dim"]);
    let config = &config.with(json!({ "head_dim": config.optional_usize(key)? }));
    let mut spec = llama::spec(&config.with_defaults(json!({ "rms_norm_eps": 1e-5 })))?;
    if config.bool_or("use_qk_norm", true)? {
        for (_, block) in layers(&mut spec) {
            let norm = block.norm;
            if let Mixer::Attention(attention) = &mut block.mixer {
                attention.qk_norm = Some(QkNorm::PerHeadRotated(norm));
            }
        }
    }
    Ok(spec)
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnKNorm, AttnQNorm};
    let mut map = llama::weights(config, spec)?;
    let names = [(AttnQNorm, "query_layernorm"), (AttnKNorm, "key_layernorm")];
    modules(&mut map.stacks[0], "{prefix}layers.{layer}.self_attn.", &names);
    Ok(map)
}
