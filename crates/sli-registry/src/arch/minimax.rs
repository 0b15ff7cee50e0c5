//! MiniMax-Text-01 (MiniMax 2025): linear attention with a fixed decay in seven of eight layers, softmax attention in the
//! others, experts in all; what goes past a branch is what goes into it.

use serde_json::json;
use sli_core::{
    DecayedAttentionSpec, Family, Ffn, Mixer, MlpSpec, ModelSpec, NormSpec, Residual, Result, RouterSpec,
    Shares, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, require, slide};
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix, per_expert};
use crate::layer_types::layers_of_type;
use crate::maps::{Fused, modules};
use crate::rope::with_counted_dimensions;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "minimax",
    family: Family::Moe,
    model_types: &["minimax", "minimax_text_01", "minimax_m1"],
    architectures: &[
        "MiniMaxForCausalLM",
        "MiniMaxModel",
        "MiniMaxText01ForCausalLM",
        "MiniMaxM1ForCausalLM",
    ],
    known_models: &[KnownModel::new(
        "MiniMax-Text-01 (456B)",
        "MiniMaxAI/MiniMax-Text-01-hf",
        "2 of 32 experts; softmax attention in every eighth layer",
    )],
    spec,
    weights,
};

const LINEAR: &str = "linear_attention";
const FULL: &str = "full_attention";

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How the linear attention is cut up, and how a shared expert would be joined.
    config.ignore(&["block_size", "shared_moe_mode"]);
    require(config, "postnorm", true)?;
    if config.count_or("shared_intermediate_size", 0)? != 0 {
        return Err(config.invalid("shared_intermediate_size", "0"));
    }
    let defaults = json!({ "rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_key_value_heads": 8 });
    let config = &config.with_defaults(defaults);
    let config = &match config.optional_usize("head_dim")? {
        Some(head_dim) => with_counted_dimensions(config, head_dim)?,
        None => config.clone(),
    };
    let mut spec = llama::spec(config)?;
    slide(&mut spec, config)?;
    let num_layers = spec.num_layers();
    let linear = layers_of_type(&with_types(config)?, num_layers, LINEAR, |layer| layer % 2 == 1)?;
    let shares = |branch: &str, released: &str| {
        let share = |letter: &str| {
            let names = [format!("{branch}_{letter}_factor"), format!("layernorm_{released}_{letter}")];
            config.f64_or(config.first_of(&names.each_ref().map(String::as_str)), 1.0)
        };
        Ok::<_, sli_core::SliError>(Shares { past: share("alpha")?, branch: share("beta")? })
    };
    let of_linear = shares("linear_attn", LINEAR)?;
    let (of_full, ffn) = (shares("full_attn", FULL)?, shares("mlp", "mlp")?);
    for (layer, block) in layers(&mut spec) {
        let mixer = if linear[layer] { of_linear } else { of_full };
        block.residual = Residual::FromNorm { mixer, ffn };
        if let (true, Mixer::Attention(attention), Some(Ffn::GatedMlp(MlpSpec { activation, .. }))) =
            (linear[layer], &block.mixer, &block.ffn)
        {
            block.mixer = Mixer::DecayedAttention(DecayedAttentionSpec {
                num_heads: attention.num_heads,
                head_dim: attention.head_dim,
                activation: *activation,
                // Later layers forget more slowly.
                rate: 1.0 - layer as f64 / (num_layers as f64 - 1.0 + 1e-5) + 1e-5,
                norm: NormSpec::rms(1e-6),
            });
        }
    }
    let num_experts = config.usize_or("num_local_experts", 8)?;
    let router = RouterSpec::softmax(config.usize_or("num_experts_per_tok", 2)?, true);
    mix(&mut spec, |_| true, |mlp| gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size));
    Ok(spec)
}

/// The config with names of its layers' types, which released ones number.
fn with_types(config: &HfConfig) -> Result<HfConfig> {
    const KEY: &str = "attn_type_list";
    if !config.has(KEY) {
        return Ok(config.clone());
    }
    let name = |value: &f64| match value {
        0.0 => Ok(LINEAR),
        1.0 => Ok(FULL),
        _ => Err(config.invalid(KEY, "0 or 1 for each layer")),
    };
    let names = config.f64s(KEY)?.unwrap_or_default().iter().map(name).collect::<Result<Vec<_>>>()?;
    Ok(config.with(json!({ "layer_types": names })))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{DecayedGate, DecayedK, DecayedNorm, DecayedOut, DecayedQ, DecayedV};
    const LAYER: &str = "{prefix}layers.{layer}.";
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    per_expert(stack, &format!("{LAYER}block_sparse_moe."), "gate", ["w1", "w3", "w2"]);
    let names = [(DecayedGate, "output_gate"), (DecayedNorm, "norm"), (DecayedOut, "out_proj")];
    modules(stack, &format!("{LAYER}self_attn."), &names);
    let decayed = spec.stacks[0].layers.iter().find_map(|block| match &block.mixer {
        Mixer::DecayedAttention(decayed) => Some(decayed),
        _ => None,
    });
    if let Some(DecayedAttentionSpec { num_heads, head_dim, .. }) = decayed {
        let name = format!("{LAYER}self_attn.qkv_proj");
        Fused { groups: *num_heads, ..Fused::new(&name) }
            .split(stack, &[(DecayedQ, *head_dim), (DecayedK, *head_dim), (DecayedV, *head_dim)]);
    }
    // What the decays come to within a block.
    for buffer in ["slope_rate", "query_decay", "key_decay", "diagonal_decay"] {
        map.ignored.push(format!("{LAYER}self_attn.{buffer}"));
    }
    Ok(map)
}
