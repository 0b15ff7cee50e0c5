//! Bamba (IBM 2024): Llama with Mamba-2's mixer in most layers, and half of each head rotated in the others.

use serde_json::json;
use sli_core::{Family, Mixer, ModelSpec, Result, WeightMap};

use super::{jamba, llama};
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::ssm::{mamba2_names, mamba2_of_hybrid, recur};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "bamba",
    family: Family::Mamba,
    model_types: &["bamba"],
    architectures: &["BambaForCausalLM", "BambaModel"],
    known_models: &[KnownModel::new("Bamba-9B", "ibm-ai-platform/Bamba-9B-v2", "3 of 32 layers attend")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Losses, which logits are computed and how, a rank that only the first Mamba has, and the rotated part of a head,
    // which is half of it whatever is said.
    config.ignore(&["z_loss_coefficient", "num_logits_to_keep", "use_mamba_kernels", "mamba_dt_rank"]);
    config.ignore(&["attn_rotary_emb", "partial_rotary_factor"]);
    let config = &config
        .with(json!({ "partial_rotary_factor": 0.5 }))
        .with_defaults(json!({ "num_key_value_heads": 8, "rms_norm_eps": 1e-5 }));
    let mut spec = llama::spec(config)?;
    let (hidden_size, norm) = (spec.stacks[0].hidden_size, spec.stacks[0].layers[0].norm);
    let inner_size = config.usize_or("mamba_expand", 2)? * hidden_size;
    let mamba = mamba2_of_hybrid(config, inner_size, norm)?;
    let attending = config.usizes("attn_layer_indices")?.unwrap_or_default();
    let recurrent: Vec<_> = (0..spec.num_layers()).map(|layer| !attending.contains(&layer)).collect();
    recur(&mut spec, &recurrent, &Mixer::Mamba2(mamba));
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    jamba::hybrid_names(&mut map);
    mamba2_names(&mut map.stacks[0], "{prefix}layers.{layer}.mamba.");
    Ok(map)
}
