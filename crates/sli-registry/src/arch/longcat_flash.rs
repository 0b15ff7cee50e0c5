//! LongCat-Flash (Meituan 2025): layers of two sublayers, each of latent attention and a dense MLP. Experts, some of which
//! return what they are given, see what the first MLP sees and are added at the layer's end.

use serde_json::json;
use sli_core::{
    Family, Ffn, Mixer, ModelSpec, Residual, Result, RouterSpec, StackMap, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::layers;
use crate::config::HfConfig;
use crate::experts::{experts_of, gated_experts, per_expert};
use crate::maps::modules;
use crate::mla::{attend_to_latents, latent_attention, latent_weights, rotated_part};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "longcat_flash",
    family: Family::Moe,
    model_types: &["longcat_flash"],
    architectures: &["LongcatFlashForCausalLM", "LongcatFlashModel"],
    known_models: &[KnownModel::new(
        "LongCat-Flash (560B)",
        "meituan-longcat/LongCat-Flash-Chat",
        "12 of 512 experts and 256 that do nothing",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // There is one kind of attention; layers after the last predict further tokens in training. The number of sublayers
    // follows from that of layers.
    config.ignore(&["attention_method", "num_nextn_predict_layers", "num_hidden_layers", "router_bias"]);
    if config.str_or("zero_expert_type", "identity")? != "identity" {
        return Err(config.invalid("zero_expert_type", "identity"));
    }
    let llama = config.with(json!({
        "num_hidden_layers": config.layers("num_layers")?,
        "intermediate_size": config.usize(config.first_of(&["ffn_hidden_size", "intermediate_size"]))?,
        "rms_norm_eps": config.f64_or("rms_norm_eps", 1e-5)?,
    }));
    let config = &rotated_part(&llama.with_defaults(json!({ "rope_theta": 1e7 })))?;
    let mut spec = llama::spec(config)?;
    attend_to_latents(&mut spec, config)?;

    let num_experts = config.usize("n_routed_experts")?;
    let inner = config.usize(config.first_of(&["expert_ffn_hidden_size", "moe_intermediate_size"]))?;
    let router = RouterSpec {
        correction: true,
        scale: config.f64_or("routed_scaling_factor", 6.0)?,
        identity_experts: config.count_or("zero_expert_num", 0)?,
        ..RouterSpec::softmax(config.usize(config.first_of(&["moe_topk", "num_experts_per_tok"]))?, false)
    };
    let hidden_size = spec.stacks[0].hidden_size as f64;
    let (scales_queries, scales_latents) =
        (config.bool_or("mla_scale_q_lora", true)?, config.bool_or("mla_scale_kv_lora", true)?);
    for (_, block) in layers(&mut spec) {
        if let Mixer::Mla(mla) = &mut block.mixer {
            let scale = |scales, rank| if scales { (hidden_size / rank as f64).sqrt() } else { 1.0 };
            let query_rank = mla.query_rank.filter(|_| scales_queries);
            mla.latent_scales =
                [query_rank.map_or(1.0, |rank| scale(true, rank)), scale(scales_latents, mla.latent_rank)];
        }
        if let Some(Ffn::GatedMlp(mlp)) = block.ffn {
            block.residual = Residual::Shortcut(mlp);
            block.ffn = Some(Ffn::Moe(gated_experts(num_experts, router.clone(), mlp, inner)));
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnNorm, MixerNorm, MlpDown, MlpGate, MlpUp};
    const LAYER: &str = "{prefix}layers.{layer}.";
    let mut map = llama::weights(config, spec)?;
    let stack: &mut StackMap = &mut map.stacks[0];
    let names = [
        (MixerNorm, "input_layernorm.{sublayer}"),
        (FfnNorm, "post_attention_layernorm.{sublayer}"),
        (MlpGate, "mlps.{sublayer}.gate_proj"),
        (MlpUp, "mlps.{sublayer}.up_proj"),
        (MlpDown, "mlps.{sublayer}.down_proj"),
    ];
    modules(stack, LAYER, &names);
    if let Some(mla) = latent_attention(spec) {
        latent_weights(stack, &format!("{LAYER}self_attn.{{sublayer}}."), mla, true);
    }
    per_expert(stack, &format!("{LAYER}mlp."), "router.classifier", ["gate_proj", "up_proj", "down_proj"]);
    let correction = format!("{LAYER}mlp.router.e_score_correction_bias");
    stack.tensor(TensorRole::RouterCorrection.weight(), &[&correction], &[]);
    // Layers that predict further tokens, a bias that is never added, and halves of experts that do nothing.
    map.ignored.extend(["model.mtp.*".to_string(), format!("{LAYER}mlp.router.classifier.bias")]);
    if let Some(moe) = experts_of(spec) {
        let idle = moe.num_experts..moe.num_experts + moe.router.identity_experts;
        for name in ["gate_proj", "up_proj"] {
            map.ignored.extend(idle.clone().map(|e| format!("{LAYER}mlp.experts.{e}.{name}.weight")));
        }
    }
    Ok(map)
}
