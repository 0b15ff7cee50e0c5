//! Llama 4 (Meta 2025): most layers rotate queries and keys, norm them without weights and see chunks of the text; the
//! others have no positions, see everything, and sharpen their queries as the text grows. In some or all layers a token
//! goes through a shared expert and through one of many, whose input its router's sigmoid weighs.

use serde_json::json;
use sli_core::{
    Family, Ffn, Mask, ModelSpec, MoeSpec, NormKind, NormSpec, PositionSpec, QkNorm, Result, RouterSpec,
    Scoring, SharedExpertSpec, Temperature, TensorRole, Weighs, WeightMap,
};

use super::llama;
use super::multimodal::{text, with_head, within};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, layers};
use crate::config::HfConfig;
use crate::experts::{Fusion, experts_of, fused_experts, gated_experts, mix, shared_expert};
use crate::maps::{modules, unpair_llama};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "llama4_text",
    family: Family::Llama,
    model_types: &["llama4_text"],
    architectures: &["Llama4ForCausalLM", "Llama4TextModel"],
    known_models: &[],
    spec,
    weights,
};

/// The releases, of which the language model is run, on text.
pub(crate) const MULTIMODAL: Architecture = Architecture {
    name: "llama4",
    model_types: &["llama4"],
    architectures: &["Llama4ForConditionalGeneration"],
    known_models: &[
        KnownModel::new(
            "Llama-4-Scout-17B-16E",
            "meta-llama/Llama-4-Scout-17B-16E",
            "experts in each layer, text only",
        ),
        KnownModel::new(
            "Llama-4-Maverick-17B-128E (400B)",
            "meta-llama/Llama-4-Maverick-17B-128E",
            "experts in every other layer, text only",
        ),
    ],
    spec: |config| {
        config.ignore(&["boi_token_index", "eoi_token_index"]);
        with_head(spec(&text(config)?)?)
    },
    weights: |config, spec| {
        within(config, &ARCHITECTURE, spec, &["vision_model.*", "multi_modal_projector.*"])
    },
    ..ARCHITECTURE
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // A switch of a tool that quantises.
    config.ignore(&["for_llm_compressor"]);
    let defaults = json!({ "head_dim": 128, "rms_norm_eps": 1e-5, "rope_theta": 5e5 });
    let mut spec = llama::spec(&config.with_defaults(defaults))?;
    let rotated = rotated_layers(config, spec.num_layers())?;
    let masks = masks(config, &rotated)?;
    let qk_norm = match config.bool_or("use_qk_norm", true)? {
        true => Some(QkNorm::PerHeadRotated(NormSpec {
            kind: NormKind::RmsUnweighted,
            eps: config.f64_or("rms_norm_eps", 1e-5)?,
        })),
        false => None,
    };
    let temperature = Temperature::LogSteps {
        interval: config.f64_or("floor_scale", 8192.0)?,
        slope: config.f64_or("attn_scale", 0.1)?,
    };
    let tuned = is_tuned(config)?;
    for (layer, attention) in attentions(&mut spec) {
        attention.mask = masks[layer];
        if rotated[layer] {
            attention.qk_norm = qk_norm;
        } else {
            attention.position = PositionSpec::None;
            attention.temperature = tuned.then_some(temperature);
        }
    }
    add_experts(&mut spec, config)?;
    Ok(spec)
}

/// Which layers have rotations: all but every fourth, unless the config lists them.
fn rotated_layers(config: &HfConfig, num_layers: usize) -> Result<Vec<bool>> {
    let interval = config.usize_or("no_rope_layer_interval", 4)?;
    match config.usizes("no_rope_layers")?.filter(|listed| !listed.is_empty()) {
        None => Ok((1..=num_layers).map(|layer| !layer.is_multiple_of(interval)).collect()),
        Some(listed) if listed.len() >= num_layers => {
            Ok(listed[..num_layers].iter().map(|rotated| *rotated != 0).collect())
        }
        Some(_) => Err(config.invalid("no_rope_layers", "a number for each layer")),
    }
}

/// What each layer sees: as `layer_types` says, else chunks where it rotates.
fn masks(config: &HfConfig, rotated: &[bool]) -> Result<Vec<Mask>> {
    let chunk = match config.has("attention_chunk_size") {
        true => config.optional_usize("attention_chunk_size")?,
        false => Some(8192),
    };
    let chunked = match config.strs("layer_types")? {
        None => rotated.to_vec(),
        Some(types) if types.len() == rotated.len() => types
            .iter()
            .map(|kind| match kind.as_str() {
                "chunked_attention" => Ok(true),
                "full_attention" => Ok(false),
                _ => Err(config.invalid("layer_types", "chunked_attention or full_attention for each layer")),
            })
            .collect::<Result<_>>()?,
        Some(_) => return Err(config.invalid("layer_types", "an entry for each layer")),
    };
    let mask = |chunked: bool| match (chunked, chunk) {
        (false, _) => Ok(Mask::Causal),
        (true, Some(size)) => Ok(Mask::Chunked { size }),
        (true, None) => Err(config.invalid("attention_chunk_size", "the chunk of some layers")),
    };
    chunked.into_iter().map(mask).collect()
}

/// Do layers without rotations sharpen their queries? The first releases say so with a number.
fn is_tuned(config: &HfConfig) -> Result<bool> {
    const KEY: &str = "attn_temperature_tuning";
    config.bool_or(KEY, true).or_else(|error| config.count_or(KEY, 0).map_or(Err(error), |n| Ok(n > 0)))
}

/// Experts in the layers that `moe_layers` lists, else in every so many; wider MLPs in the others.
fn add_experts(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let step = config.usize_or("interleave_moe_layer_step", 1)?;
    let listed = config.usizes("moe_layers")?;
    let sparse = |layer: usize| match &listed {
        Some(listed) => listed.contains(&layer),
        None => (layer + 1).is_multiple_of(step),
    };
    let num_experts = config.usize_or("num_local_experts", 16)?;
    let router = RouterSpec {
        scoring: Scoring::Sigmoid,
        weighs: Weighs::Input,
        ..RouterSpec::softmax(config.usize_or("num_experts_per_tok", 1)?, false)
    };
    mix(spec, sparse, |mlp| MoeSpec {
        shared: Some(SharedExpertSpec { mlp, gated: false, scale: 1.0 }),
        ..gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size)
    });
    let dense_size = config.usize_or("intermediate_size_mlp", 16384)?;
    for (_, block) in layers(spec) {
        if let Some(Ffn::GatedMlp(mlp)) = &mut block.ffn {
            mlp.intermediate_size = dense_size;
        }
    }
    Ok(())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{MlpDown, MlpGate, MlpUp, Router};
    const BASE: &str = "{prefix}layers.{layer}.feed_forward.";
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    unpair_llama(stack, spec);
    modules(stack, BASE, &[(MlpGate, "gate_proj"), (MlpUp, "up_proj"), (MlpDown, "down_proj")]);
    if let Some(moe) = experts_of(spec) {
        stack.module(Router, &format!("{BASE}router"));
        shared_expert(stack, &format!("{BASE}shared_expert."));
        let (gate_up, down) = (format!("{BASE}experts.gate_up_proj"), format!("{BASE}experts.down_proj"));
        fused_experts(stack, moe, Fusion::Columns, &gate_up, &down);
    }
    Ok(map)
}
