//! Switch Transformers (Fedus et al. 2021): T5 with experts in every so many layers. A token goes through one, unless
//! that has taken as many tokens of the sample as it has places.

use serde_json::json;
use sli_core::{
    ExpertSpec, Family, Ffn, ModelSpec, MoeSpec, Result, RouterSpec, StackKind, TensorRole, WeightMap,
};

use super::t5;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "switch_transformers",
    family: Family::T5,
    model_types: &["switch_transformers"],
    architectures: &[
        "SwitchTransformersForConditionalGeneration",
        "SwitchTransformersModel",
        "SwitchTransformersEncoderModel",
    ],
    known_models: &[KnownModel::new("Switch-c-2048 (1.6T)", "google/switch-c-2048", "1 of 2048 experts")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // About losses, padding and number formats; scores are f32 always.
    config.ignore(&["router_z_loss_coef", "add_router_probs", "router_dtype", "router_type"]);
    config.ignore(&["router_ignore_padding_tokens", "batch_prioritized_routing", "add_cross_attention"]);
    // Said again.
    config.ignore(&["feed_forward_proj", "is_full_sparse"]);
    let activation = config.str_or("dense_act_fn", "relu")?;
    let mut spec = t5::spec(&config.with(json!({ "feed_forward_proj": activation })))?;
    let num_experts = config.usize_or("num_experts", 8)?;
    let router = RouterSpec {
        bias: config.bool_or("router_bias", false)?,
        capacity: Some(config.usize_or("expert_capacity", 64)?),
        ..RouterSpec::softmax(1, false)
    };
    for stack in &mut spec.stacks {
        let side = if stack.kind == StackKind::Decoder { "decoder" } else { "encoder" };
        let step = sparse_step(config, side, stack.layers.len())?;
        for (layer, block) in stack.layers.iter_mut().enumerate() {
            if let (true, Some(Ffn::Mlp(mlp))) = (step == 1 || step > 0 && layer % step == 1, &block.ffn) {
                let (router, expert) = (router.clone(), ExpertSpec::Plain(*mlp));
                block.ffn = Some(Ffn::Moe(MoeSpec {
                    num_experts,
                    router,
                    expert,
                    shared: None,
                    bias: false,
                    latent: None,
                }));
            }
        }
    }
    Ok(spec)
}

/// After how many layers the next one with experts comes, the first of which is the second layer; 0 for never.
fn sparse_step(config: &HfConfig, side: &str, layers: usize) -> Result<usize> {
    let shared_out = match config.count_or(&format!("num_sparse_{side}_layers"), 3)? {
        0 => layers,
        sparse => layers / sparse,
    };
    config.count_or(&format!("{side}_sparse_step"), shared_out)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{ExpertDown, ExpertUp, MlpDown, MlpUp, Router};
    let mut map = t5::weights(config, spec)?;
    for (stack, side) in map.stacks.iter_mut().zip(["encoder", "decoder"]) {
        let sublayer = if side == "decoder" { 2 } else { 1 };
        let mlp = format!("{side}.block.{{layer}}.layer.{sublayer}.mlp.");
        let expert = format!("{mlp}experts.expert_{{expert}}.");
        stack.module(MlpUp, &format!("{mlp}wi")).module(MlpDown, &format!("{mlp}wo"));
        stack.module(ExpertUp(0), &format!("{expert}wi")).module(ExpertDown(0), &format!("{expert}wo"));
        stack.module(Router, &format!("{mlp}router.classifier"));
    }
    Ok(map)
}
