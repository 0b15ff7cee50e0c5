//! Qwen3.5: Qwen3-Next's layers with other names for the projections of the delta rule; dense or with experts; within a
//! multimodal release, of which the text is run.

use serde_json::json;
use sli_core::{Family, ModelSpec, Result, TensorRole, WeightMap};

use super::multimodal::{text, with_head, within};
use super::qwen2_moe::{add_shared_expert, expert_names};
use super::qwen3_moe::qwen_experts;
use super::qwen3_next::{hybrid, hybrid_weights};
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::delta::{decay_parameters, delta_of};
use crate::experts::{Fusion, experts_of, fused_experts};
use crate::maps::{Fused, modules};

pub(crate) const DENSE: Architecture = Architecture {
    name: "qwen3_5_text",
    family: Family::Qwen,
    model_types: &["qwen3_5_text"],
    architectures: &["Qwen3_5ForCausalLM", "Qwen3_5TextModel"],
    known_models: &[],
    spec: dense,
    weights: names,
};

pub(crate) const SPARSE: Architecture = Architecture {
    name: "qwen3_5_moe_text",
    family: Family::Qwen,
    model_types: &["qwen3_5_moe_text"],
    architectures: &["Qwen3_5MoeForCausalLM", "Qwen3_5MoeTextModel"],
    known_models: &[],
    spec: sparse,
    weights: sparse_names,
};

pub(crate) const MULTIMODAL: Architecture = Architecture {
    name: "qwen3_5",
    family: Family::Qwen,
    model_types: &["qwen3_5"],
    architectures: &["Qwen3_5ForConditionalGeneration", "Qwen3_5Model"],
    known_models: &[KnownModel::new(
        "Qwen3.5",
        "Qwen/Qwen3.5-27B",
        "text only; delta rule in three of four layers",
    )],
    spec: |config| with_head(dense(&text(config)?)?),
    weights: |config, spec| within(config, &DENSE, spec, TOWER),
};

pub(crate) const SPARSE_MULTIMODAL: Architecture = Architecture {
    name: "qwen3_5_moe",
    family: Family::Qwen,
    model_types: &["qwen3_5_moe"],
    architectures: &["Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeModel"],
    known_models: &[],
    spec: |config| with_head(sparse(&text(config)?)?),
    weights: |config, spec| {
        const BASE: &str = "{prefix}layers.{layer}.mlp.experts.";
        let mut map = within(config, &SPARSE, spec, TOWER)?;
        if let Some(moe) = experts_of(spec) {
            let (gate_up, down) = (format!("{BASE}gate_up_proj"), format!("{BASE}down_proj"));
            fused_experts(&mut map.stacks[0], moe, Fusion::Rows, &gate_up, &down);
        }
        Ok(map)
    },
};

/// The tower for pictures.
const TOWER: &[&str] = &["visual.*", "model.visual.*"];

fn dense(config: &HfConfig) -> Result<ModelSpec> {
    ignore_training(config);
    hybrid(config)
}

fn sparse(config: &HfConfig) -> Result<ModelSpec> {
    ignore_training(config);
    // Every layer is sparse, and the weights of the chosen experts add up to one, whatever the config says.
    config.ignore(&["intermediate_size", "norm_topk_prob", "decoder_sparse_step", "mlp_only_layers"]);
    let every_layer = json!({
        "intermediate_size": config.usize("moe_intermediate_size")?, "norm_topk_prob": true,
        "decoder_sparse_step": 1, "mlp_only_layers": []
    });
    let config = &config.with(every_layer);
    let mut spec = hybrid(config)?;
    qwen_experts(&mut spec, config)?;
    add_shared_expert(&mut spec, config)?;
    Ok(spec)
}

/// The layers that predict further tokens, how states were kept in training, and that outputs are gated, which they
/// always are.
fn ignore_training(config: &HfConfig) {
    config.ignore(&["mtp_num_hidden_layers", "mtp_use_dedicated_embeddings", "mamba_ssm_dtype"]);
    config.ignore(&["attn_output_gate", "full_attention_interval", "mlp_only_layers"]);
}

fn names(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{DeltaDecay, DeltaGate, DeltaK, DeltaQ, DeltaV, DeltaWrite};
    const LINEAR: &str = "{prefix}layers.{layer}.linear_attn.";
    let mut map = hybrid_weights(config, spec)?;
    map.prefixes.push("model.language_model.");
    let stack = &mut map.stacks[0];
    if let Some(delta) = delta_of(spec) {
        let (keys, values) = (delta.key_width(), delta.value_width());
        Fused::new("{prefix}layers.{layer}.linear_attn.in_proj_qkv")
            .split(stack, &[(DeltaQ, keys), (DeltaK, keys), (DeltaV, values)]);
    }
    let projections = [(DeltaGate, "in_proj_z"), (DeltaWrite, "in_proj_b"), (DeltaDecay, "in_proj_a")];
    modules(stack, LINEAR, &projections);
    decay_parameters(stack, LINEAR, &[]);
    Ok(map)
}

fn sparse_names(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = names(config, spec)?;
    expert_names(&mut map.stacks[0]);
    Ok(map)
}
