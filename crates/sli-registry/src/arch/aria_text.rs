//! Aria (Li et al. 2024): Llama's attention, experts chosen by a softmax over the best logits, stored as two tensors, and
//! shared ones. In the released model it lies beside a tower for pictures.

use serde_json::json;
use sli_core::{
    Family, MlpSpec, ModelSpec, MoeSpec, Result, RouterSpec, Scoring, SharedExpertSpec, TensorRole, WeightMap,
};

use super::llama;
use super::multimodal::{text, with_head, within};
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::experts::{Fusion, experts_of, fused_experts, gated_experts, mix, shared_expert};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "aria_text",
    family: Family::Moe,
    model_types: &["aria_text", "aria_moe_lm"],
    architectures: &["AriaTextForCausalLM", "AriaTextModel"],
    known_models: &[],
    spec,
    weights,
};

/// The same within a config and a checkpoint that also describe the tower.
pub(crate) const MULTIMODAL: Architecture = Architecture {
    name: "aria",
    family: Family::Moe,
    model_types: &["aria"],
    architectures: &["AriaForConditionalGeneration"],
    known_models: &[KnownModel::new("Aria (25B)", "rhymes-ai/Aria", "6 of 64 experts, 2 shared; text only")],
    spec: |config| {
        config.ignore(&["projector_patch_to_query_dict", "max_value_projector_patch_to_query_dict"]);
        with_head(spec(&text(config)?)?)
    },
    weights: |config, spec| within(config, &ARCHITECTURE, spec, TOWERS),
};

const TOWERS: &[&str] =
    &["vision_tower.*", "multi_modal_projector.*", "model.vision_tower.*", "model.multi_modal_projector.*"];

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    config.ignore(&["moe_aux_loss_coeff", "moe_z_loss_coeff"]);
    config.ignore(&["num_experts_per_tok"]); // `moe_topk` said again
    // An MLP of this width is nowhere; the first code had the experts' under a name of its own.
    let inner = config.usize(match config.has("moe_intermediate_size") {
        true => "moe_intermediate_size",
        false => "intermediate_size",
    })?;
    config.ignore(&["intermediate_size"]);
    let mut spec = llama::spec(&config.with(json!({ "intermediate_size": inner })))?;
    let num_experts = config.usize_or("moe_num_experts", 8)?;
    let num_shared = config.usize_or("moe_num_shared_experts", 2)?;
    let router = RouterSpec {
        scoring: Scoring::SoftmaxOfChosen,
        ..RouterSpec::softmax(config.usize_or("moe_topk", 2)?, false)
    };
    mix(
        &mut spec,
        |_| true,
        |mlp| {
            let shared = MlpSpec { intermediate_size: num_shared * inner, ..mlp };
            MoeSpec {
                shared: Some(SharedExpertSpec { mlp: shared, gated: false, scale: 1.0 }),
                ..gated_experts(num_experts, router.clone(), MlpSpec { bias: false, ..mlp }, inner)
            }
        },
    );
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    const BASE: &str = "{prefix}layers.{layer}.mlp.";
    let mut map = llama::weights(config, spec)?;
    let Some(moe) = experts_of(spec) else { return Ok(map) };
    let stack = &mut map.stacks[0];
    stack.module(TensorRole::Router, &format!("{BASE}router"));
    let (gate_up, down) = (format!("{BASE}experts.fc1.weight"), format!("{BASE}experts.fc2.weight"));
    fused_experts(stack, moe, Fusion::Columns, &gate_up, &down);
    shared_expert(stack, &format!("{BASE}shared_experts."));
    Ok(map)
}
