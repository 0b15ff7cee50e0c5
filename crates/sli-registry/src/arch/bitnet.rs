//! BitNet b1.58 2B4T (Ma et al. 2025): Llama with squared ReLU, and a norm before the last projection of each branch.
//! That weights are -1, 0 and 1 and inputs have 8 bits is said by `quantization_config`; see [`crate::ternary`].

use serde_json::json;
use sli_core::{Family, Ffn, Mixer, ModelSpec, NormedMlpSpec, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::layers;
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "bitnet",
    family: Family::Llama,
    model_types: &["bitnet"],
    architectures: &["BitNetForCausalLM", "BitNetModel"],
    known_models: &[KnownModel::new(
        "BitNet-b1.58-2B-4T",
        "microsoft/bitnet-b1.58-2B-4T-bf16",
        "ternary weights, rounded while they are loaded; or packed",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let defaults = json!({ "hidden_act": "relu2", "rope_theta": 500_000.0, "rms_norm_eps": 1e-5 });
    let mut spec = llama::spec(&config.with_defaults(defaults))?;
    for (_, block) in layers(&mut spec) {
        if let Mixer::Attention(attention) = &mut block.mixer {
            attention.output_norm = Some(block.norm);
        }
        if let Some(Ffn::GatedMlp(mlp)) = block.ffn {
            block.ffn = Some(Ffn::NormedGatedMlp(NormedMlpSpec { mlp, norm: block.norm }));
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(config, spec)?;
    let names = [
        (TensorRole::AttnOutNorm, "self_attn.attn_sub_norm"),
        (TensorRole::MlpInnerNorm, "mlp.ffn_sub_norm"),
    ];
    modules(&mut map.stacks[0], "{prefix}layers.{layer}.", &names);
    Ok(map)
}
