//! nanochat (Karpathy 2025): Llama with norms without weights (also after the embedding, and on each head of queries
//! and keys after the rotation), rotations the other way round, a squared ReLU in an MLP without gate, and capped
//! logits.

use serde_json::json;
use sli_core::{Family, LoadOp, Mixer, ModelSpec, NormKind, NormSpec, QkNorm, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, remove_gates, set_norm};
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "nanochat",
    family: Family::Gpt,
    model_types: &["nanochat"],
    architectures: &["NanoChatForCausalLM", "NanoChatModel"],
    known_models: &[KnownModel::new("nanochat-d32", "karpathy/nanochat-d32", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &config.with_defaults(json!({ "hidden_act": "relu2", "final_logit_softcapping": 15.0 }));
    let mut spec = llama::spec(config)?;
    let norm = NormSpec { kind: NormKind::RmsUnweighted, eps: config.f64_or("rms_norm_eps", 1e-6)? };
    remove_gates(&mut spec);
    set_norm(&mut spec, norm);
    spec.stacks[0].embedding.norm = Some(norm);
    attentions(&mut spec).for_each(|(_, attention)| attention.qk_norm = Some(QkNorm::PerHeadRotated(norm)));
    let softcap = config.optional_f64("final_logit_softcapping")?;
    if let Some(head) = &mut spec.head {
        head.softcap = softcap;
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnQ, MlpDown, MlpUp};
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    modules(stack, "{prefix}layers.{layer}.mlp.", &[(MlpUp, "fc1"), (MlpDown, "fc2")]);
    // A rotation by the negative angle is one by the angle between halves that have changed places.
    if let Mixer::Attention(attention) = &spec.stacks[0].layers[0].mixer {
        let ops = [LoadOp::LastFirst { block: attention.head_dim, last: attention.head_dim / 2 }];
        for (role, name) in [(AttnQ, "q_proj"), (AttnK, "k_proj")] {
            stack.module_with(role, &format!("{{prefix}}layers.{{layer}}.self_attn.{name}"), &ops);
        }
    }
    Ok(map)
}
