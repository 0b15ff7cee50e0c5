//! Falcon-H1 (TII 2025): attention and Mamba-2's mixer side by side in each layer, and multipliers everywhere.

use serde_json::json;
use sli_core::{
    AttentionAndScanSpec, Family, Ffn, GatedNormSpec, Mixer, ModelSpec, Result, ScaledMlpSpec, WeightMap,
};

use super::{jamba, llama};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{layers, require};
use crate::config::HfConfig;
use crate::ssm::{mamba2_names, mamba2_of_hybrid};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "falcon_h1",
    family: Family::Mamba,
    model_types: &["falcon_h1"],
    architectures: &["FalconH1ForCausalLM", "FalconH1Model"],
    known_models: &[KnownModel::new(
        "Falcon-H1-34B",
        "tiiuae/Falcon-H1-34B-Base",
        "attention and a scan side by side",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Which logits are computed, and how the released sizes were found.
    config.ignore(&["num_logits_to_keep", "attn_layer_indices", "mlp_expansion_factor", "mamba_expand"]);
    require(config, "mamba_use_mlp", true)?;
    let config = &config.with_defaults(json!({ "num_key_value_heads": 8, "rms_norm_eps": 1e-5 }));
    let mut spec = llama::spec(config)?;
    let scale = |key: &str| config.f64_or(key, 1.0);
    let stack = &mut spec.stacks[0];
    stack.embedding.scale = Some(scale("embedding_multiplier")?);
    let (hidden_size, norm) = (stack.hidden_size, stack.layers[0].norm);
    if let Some(head) = &mut spec.head {
        head.scale = Some(scale("lm_head_multiplier")?);
    }

    let inner_size = match config.is_null("mamba_d_ssm") {
        true => config.usize_or("mamba_expand", 2)? * hidden_size,
        false => config.usize_or("mamba_d_ssm", 1024)?,
    };
    let mut scan = mamba2_of_hybrid(config, inner_size, norm)?;
    scan.output_bias = config.bool_or("projectors_bias", false)?;
    let before_gate = config.bool_or("mamba_norm_before_gate", true)?;
    let normed = config.bool_or("mamba_rms_norm", false)?;
    scan.norm = normed.then_some(GatedNormSpec { norm, before_gate });
    scan.multipliers = multipliers(config, "ssm_multipliers")?;
    let scan_scales = [scale("ssm_in_multiplier")?, scale("ssm_out_multiplier")?];
    let attention_scales = [scale("attention_in_multiplier")?, scale("attention_out_multiplier")?];
    let key_scale = scale("key_multiplier")?;
    let [gate_scale, mlp_scale] = multipliers(config, "mlp_multipliers")?.unwrap_or([1.0; 2]);
    for (_, block) in layers(&mut spec) {
        if let Mixer::Attention(attention) = &block.mixer {
            let mut attention = attention.clone();
            attention.scale *= key_scale;
            let both = AttentionAndScanSpec { attention, attention_scales, scan, scan_scales };
            block.mixer = Mixer::AttentionAndScan(both);
        }
        if let Some(Ffn::GatedMlp(mlp)) = block.ffn {
            block.ffn = Some(Ffn::ScaledGatedMlp(ScaledMlpSpec { mlp, gate_scale, scale: mlp_scale }));
        }
    }
    Ok(spec)
}

/// A list of so many numbers.
fn multipliers<const N: usize>(config: &HfConfig, key: &str) -> Result<Option<[f64; N]>> {
    let Some(values) = config.f64s(key)? else { return Ok(None) };
    let values = <[f64; N]>::try_from(values).ok().filter(|values| values.iter().all(|v| v.is_finite()));
    values.map(Some).ok_or_else(|| config.invalid(key, &format!("{N} finite numbers")))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    jamba::hybrid_names(&mut map);
    mamba2_names(&mut map.stacks[0], "{prefix}layers.{layer}.mamba.");
    Ok(map)
}
