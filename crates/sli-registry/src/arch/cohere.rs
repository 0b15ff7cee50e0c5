//! Command R (Cohere 2024): Llama with both branches behind one layer norm without bias, rotations of neighbouring
//! dimensions, scaled logits and a tied head; in Command R+ each head of queries and keys has a norm of its own.

use serde_json::json;
use sli_core::{
    Family, LoadOp, Mixer, ModelSpec, NormKind, NormSpec, QkNorm, Residual, Result, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, set_norm, set_residual};
use crate::config::HfConfig;
use crate::maps::{neighbour_pairs, unpair_llama};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "cohere",
    family: Family::Llama,
    model_types: &["cohere"],
    architectures: &["CohereForCausalLM", "CohereModel"],
    known_models: &[
        KnownModel::new("Command R (35B)", "CohereForAI/c4ai-command-r-v01", ""),
        KnownModel::new(
            "Command R+ (104B)",
            "CohereForAI/c4ai-command-r-plus",
            "norms on heads of queries and keys",
        ),
        KnownModel::new("Aya-23-35B", "CohereForAI/aya-23-35B", ""),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let mut spec = llama::spec(config)?;
    join_branches(&mut spec, config)?;
    if config.bool_or("use_qk_norm", false)? {
        let norm = spec.stacks[0].layers[0].norm;
        attentions(&mut spec).for_each(|(_, attention)| attention.qk_norm = Some(QkNorm::EachHead(norm)));
    }
    Ok(spec)
}

/// Both branches behind one norm, scaled logits, and positions that may go on past `max_position_embeddings`.
pub(super) fn join_branches(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let eps = config.f64_or("layer_norm_eps", 1e-5)?;
    set_norm(spec, NormSpec { kind: NormKind::LayerUnbiased, eps });
    set_residual(spec, Residual::Parallel { shared_norm: true });
    let scale = config.f64_or("logit_scale", 0.0625)?;
    if let Some(head) = &mut spec.head {
        head.scale = Some(scale);
    }
    // What Command R was trained on, where `max_position_embeddings` is but what it was made for to begin with.
    if let Some(length) = config.optional_usize("model_max_length")? {
        spec.max_length = Some(length);
    }
    Ok(())
}

pub(super) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    let (stack, pairs) = (&mut map.stacks[0], neighbour_pairs(spec));
    unpair_llama(stack, spec);
    if let Mixer::Attention(attention) = &spec.stacks[0].layers[0].mixer
        && attention.qk_norm.is_some()
    {
        for (role, name, count) in [
            (TensorRole::AttnQHeadNorm(0), "q_norm", attention.num_heads),
            (TensorRole::AttnKHeadNorm(0), "k_norm", attention.num_kv_heads),
        ] {
            let ops: Vec<_> = std::iter::once(LoadOp::SelectExpert { count }).chain(pairs.clone()).collect();
            let name = format!("{{prefix}}layers.{{layer}}.self_attn.{name}.weight");
            stack.tensor(role.weight(), &[&name], &ops);
        }
    }
    Ok(map)
}
