//! JetMoE (Shen et al. 2024): experts both in place of the MLP and in the attention, where each has a projection of
//! queries and one back to the hidden state.

use serde_json::json;
use sli_core::{
    AttentionExpertsSpec, Family, LoadOp, Mixer, ModelSpec, MoeSpec, NormSpec, Result, RouterSpec, Scoring,
    TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::layers;
use crate::config::HfConfig;
use crate::experts::{Fusion, experts_of, fused_experts, gated_experts, mix};
use crate::maps::Fused;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "jetmoe",
    family: Family::Moe,
    model_types: &["jetmoe"],
    architectures: &["JetMoeForCausalLM", "JetMoEForCausalLM", "JetMoeModel"],
    known_models: &[KnownModel::new(
        "JetMoE-8B",
        "jetmoe/jetmoe-8b",
        "2 of 8 experts in MLP and attention each",
    )],
    spec,
    weights,
};

/// The norms within the layers have this whatever the config says, which holds for the last one.
const LAYER_NORM_EPS: f64 = 1e-6;

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Always so, or as many as key heads times choices.
    config.ignore(&["glu", "bias", "num_attention_heads", "aux_loss_coef", "moe_num_experts", "moe_top_k"]);
    let num_kv_heads = config.usize("num_key_value_heads")?;
    let names_of_llama = json!({
        "num_attention_heads": num_kv_heads,
        "head_dim": config.usize("kv_channels")?,
        "intermediate_size": config.usize(config.first_of(&["intermediate_size", "ffn_hidden_size"]))?,
        "hidden_act": config.str_or("activation_function", "silu")?,
    });
    let mut spec = llama::spec(&config.with(names_of_llama))?;
    let num_experts = config.usize(config.first_of(&["num_local_experts", "moe_num_experts"]))?;
    let top_k = config.usize(config.first_of(&["num_experts_per_tok", "moe_top_k"]))?;
    let router = RouterSpec { scoring: Scoring::SoftmaxOfChosen, ..RouterSpec::softmax(top_k, false) };
    mix(
        &mut spec,
        |_| true,
        |mlp| MoeSpec {
            bias: true,
            ..gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size)
        },
    );
    for (_, block) in layers(&mut spec) {
        block.norm = NormSpec::rms(LAYER_NORM_EPS);
        if let Mixer::Attention(attention) = &block.mixer {
            let mut attention = attention.clone();
            attention.bias.output = true;
            let router = router.clone();
            block.mixer = Mixer::AttentionExperts(AttentionExpertsSpec { attention, num_experts, router });
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnExpertOut, AttnExpertQ, AttnK, AttnOut, AttnRouter, AttnV, ExpertSum, Router};
    const EXPERTS: &str = "{prefix}layers.{layer}.mlp.";
    const ATTENTION: &str = "{prefix}layers.{layer}.self_attention.";
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    let stack = &mut map.stacks[0];
    if let Mixer::AttentionExperts(experts) = &spec.stacks[0].layers[0].mixer {
        let width = experts.attention.num_kv_heads * experts.attention.head_dim;
        Fused::new(&format!("{ATTENTION}kv_proj")).split(stack, &[(AttnK, width), (AttnV, width)]);
        let select = LoadOp::SelectExpert { count: experts.num_experts };
        for (role, name) in [(AttnExpertQ(0), "input_linear"), (AttnExpertOut(0), "output_linear")] {
            stack.tensor(role.weight(), &[&format!("{ATTENTION}experts.{name}.weight")], &[select]);
        }
        stack.module(AttnRouter, &format!("{ATTENTION}experts.router.layer"));
        stack.tensor(AttnOut.bias(), &[&format!("{ATTENTION}experts.bias")], &[]);
    }
    if let Some(moe) = experts_of(spec) {
        let (gate_up, down) =
            (format!("{EXPERTS}input_linear.weight"), format!("{EXPERTS}output_linear.weight"));
        fused_experts(stack, moe, Fusion::Rows, &gate_up, &down);
        stack.module(Router, &format!("{EXPERTS}router.layer"));
        stack.tensor(ExpertSum.bias(), &[&format!("{EXPERTS}bias")], &[]);
    }
    Ok(map)
}
