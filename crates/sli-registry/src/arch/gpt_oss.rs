//! gpt-oss (OpenAI 2025): biases everywhere, a learned sink in each head's softmax, windows on every other layer, and
//! experts with a bounded gate, which released checkpoints store as MXFP4.

use serde_json::json;
use sli_core::{
    ClampedMlpSpec, ExpertSpec, Family, LoadOp, Mask, ModelSpec, MoeSpec, Result, RouterSpec, Scoring,
    TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::experts::{Fusion, experts_of, fused_experts, mix};
use crate::quantization::is_mxfp4;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gpt_oss",
    family: Family::Moe,
    model_types: &["gpt_oss"],
    architectures: &["GptOssForCausalLM", "GptOssModel"],
    known_models: &[
        KnownModel::new("gpt-oss-20b", "openai/gpt-oss-20b", "4 of 32 experts; MXFP4"),
        KnownModel::new("gpt-oss-120b", "openai/gpt-oss-120b", "4 of 128 experts; MXFP4"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Said again in other words.
    config.ignore(&["experts_per_token", "initial_context_length"]);
    let mut spec = llama::spec(&config.with_defaults(json!({ "rms_norm_eps": 1e-5 })))?;
    let window = config.usize("sliding_window")?;
    let types = config.strs("layer_types")?;
    for (layer, attention) in attentions(&mut spec) {
        attention.sinks = true;
        let kind = types.as_ref().map(|types| types.get(layer).map(String::as_str));
        attention.mask = match kind {
            None if layer.is_multiple_of(2) => Mask::Sliding { window },
            Some(Some("sliding_attention")) => Mask::Sliding { window },
            None | Some(Some("full_attention")) => Mask::Causal,
            Some(_) => {
                return Err(
                    config.invalid("layer_types", "sliding_attention or full_attention for each layer")
                );
            }
        };
    }
    let num_experts = config.usize("num_local_experts")?;
    let router = RouterSpec {
        scoring: Scoring::SoftmaxOfChosen,
        bias: true,
        ..RouterSpec::softmax(config.usize("num_experts_per_tok")?, false)
    };
    let (limit, alpha) = (config.f64_or("swiglu_limit", 7.0)?, config.f64_or("swiglu_alpha", 1.702)?);
    mix(
        &mut spec,
        |_| true,
        |mlp| {
            let intermediate_size = mlp.intermediate_size;
            let expert = ExpertSpec::Clamped(ClampedMlpSpec { intermediate_size, limit, alpha, bias: true });
            MoeSpec { num_experts, router: router.clone(), expert, shared: None, bias: false, latent: None }
        },
    );
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnSinks, ExpertDown, ExpertGate, ExpertUp, Router};
    const BASE: &str = "{prefix}layers.{layer}.mlp.";
    let mut map = llama::weights(config, spec)?;
    let Some(moe) = experts_of(spec) else { return Ok(map) };
    let stack = &mut map.stacks[0];
    stack.tensor(AttnSinks.weight(), &["{prefix}layers.{layer}.self_attn.sinks"], &[]);
    stack.module(Router, &format!("{BASE}router"));
    let (packed, fusion) = match is_mxfp4(config)? {
        true => ("_blocks", Fusion::RowsTakingTurns),
        false => ("", Fusion::ColumnsTakingTurns),
    };
    let (gate_up, down) = (format!("{BASE}experts.gate_up_proj"), format!("{BASE}experts.down_proj"));
    fused_experts(stack, moe, fusion, &format!("{gate_up}{packed}"), &format!("{down}{packed}"));
    let (select, groups) = (LoadOp::SelectExpert { count: moe.num_experts }, moe.expert.intermediate_size());
    for (role, start) in [(ExpertGate(0), 0), (ExpertUp(0), 1)] {
        let rows = LoadOp::TakeRows { groups, block: 2, start };
        stack.tensor(role.bias(), &[&format!("{gate_up}_bias")], &[select, rows]);
    }
    stack.tensor(ExpertDown(0).bias(), &[&format!("{down}_bias")], &[select]);
    Ok(map)
}
