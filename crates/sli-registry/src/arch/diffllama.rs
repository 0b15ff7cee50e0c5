//! DiffLlama: Llama with differential attention (Ye et al. 2024).

use serde_json::json;
use sli_core::{
    DifferentialSpec, Family, Mixer, ModelSpec, NormKind, NormSpec, Result, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::layers;
use crate::config::HfConfig;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "diffllama",
    family: Family::Llama,
    model_types: &["diffllama"],
    architectures: &["DiffLlamaForCausalLM", "DiffLlamaModel"],
    known_models: &[KnownModel::new(
        "DiffLlama-375M",
        "kajuma/DiffLlama-0.3B-handcut",
        "differential attention",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Of initial values.
    config.ignore(&["lambda_std_dev"]);
    let mut spec = llama::spec(&config.with_defaults(json!({ "rms_norm_eps": 1e-5 })))?;
    for (layer, block) in layers(&mut spec) {
        if let Mixer::Attention(attention) = &block.mixer {
            block.mixer = Mixer::Differential(DifferentialSpec {
                attention: attention.clone(),
                lambda_init: 0.8 - 0.6 * (-0.3 * layer as f64).exp(),
                norm: NormSpec { kind: NormKind::RmsUnweighted, ..block.norm },
            });
        }
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{LambdaK1, LambdaK2, LambdaQ1, LambdaQ2};
    let mut map = llama::weights(config, spec)?;
    for (role, name) in [(LambdaQ1, "q1"), (LambdaK1, "k1"), (LambdaQ2, "q2"), (LambdaK2, "k2")] {
        let name = format!("{{prefix}}layers.{{layer}}.self_attn.lambda_{name}");
        map.stacks[0].tensor(role.weight(), &[&name], &[]);
    }
    Ok(map)
}
