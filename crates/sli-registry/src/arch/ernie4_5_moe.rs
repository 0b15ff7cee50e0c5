//! ERNIE 4.5 (Baidu 2025), the models with experts: the dense model's blocks, experts in most layers, chosen by softmax
//! with a correction, and shared ones.

use serde_json::json;
use sli_core::{
    Family, LoadOp, MlpSpec, ModelSpec, Result, RouterSpec, SharedExpertSpec, TensorRole, WeightMap,
};

use super::ernie4_5;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::share_per_head;
use crate::config::HfConfig;
use crate::experts::{deepseek_names, gated_experts, mix};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "ernie4_5_moe",
    family: Family::Moe,
    model_types: &["ernie4_5_moe"],
    architectures: &["Ernie4_5_MoeForCausalLM", "Ernie4_5_MoeModel"],
    known_models: &[
        KnownModel::new("ERNIE-4.5-21B-A3B", "baidu/ERNIE-4.5-21B-A3B-PT", "6 of 64 experts, 2 shared"),
        KnownModel::new("ERNIE-4.5-300B-A47B", "baidu/ERNIE-4.5-300B-A47B-PT", "8 of 64 experts"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Of training, and of layers that predict further tokens.
    config.ignore(&["moe_capacity", "moe_use_aux_free", "moe_gate", "multi_token_pred_lambda"]);
    config.ignore(&["num_nextn_predict_layers"]);
    let (hidden_size, num_heads) = (config.usize("hidden_size")?, config.usize("num_attention_heads")?);
    let head_dim = share_per_head(config, hidden_size, num_heads)?;
    let mut spec = ernie4_5::spec(&config.with_defaults(json!({ "head_dim": head_dim })))?;
    let num_layers = spec.num_layers();
    let num_experts = config.usize("moe_num_experts")?;
    let intermediate_size = config.usize("moe_intermediate_size")?;
    let num_shared = config.count_or("moe_num_shared_experts", 0)?;
    let first = config.count_or("moe_layer_start_index", 1)?;
    let last = config.optional_index("moe_layer_end_index")?.unwrap_or(num_layers - 1);
    let interval = config.usize_or("moe_layer_interval", 1)?;
    let router = RouterSpec {
        correction: true,
        normalize: Some(0.0),
        ..RouterSpec::softmax(config.usize(config.first_of(&["moe_k", "num_experts_per_tok"]))?, false)
    };
    config.ignore(&["moe_norm_min"]); // sums are far above it
    let is_sparse = |layer: usize| (layer + 1).is_multiple_of(interval) && (first..=last).contains(&layer);
    mix(&mut spec, is_sparse, |mlp| {
        let shared = MlpSpec { intermediate_size: num_shared * intermediate_size, ..mlp };
        sli_core::MoeSpec {
            shared: (num_shared > 0).then_some(SharedExpertSpec { mlp: shared, gated: false, scale: 1.0 }),
            ..gated_experts(num_experts, router.clone(), mlp, intermediate_size)
        }
    });
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = ernie4_5::weights(config, spec)?;
    deepseek_names(&mut map);
    map.stacks[0].tensor(
        TensorRole::RouterCorrection.weight(),
        &["{prefix}layers.{layer}.mlp.moe_statics.e_score_correction_bias"],
        &[LoadOp::DropAxis(0)],
    );
    map.ignored.push("{prefix}mtp_*".into());
    Ok(map)
}
