//! Doge (SmallDoge 2025): Llama with a norm on each head of queries and keys, scores to which something is added that
//! follows from a key's values, and a residual stream that is weighed by a vector before each branch is added.

use sli_core::{Family, Mask, ModelSpec, Residual, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, norm_heads, require, set_residual};
use crate::config::HfConfig;
use crate::maps::{head_norms, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "doge",
    family: Family::Llama,
    model_types: &["doge"],
    architectures: &["DogeForCausalLM", "DogeModel"],
    known_models: &[KnownModel::new("Doge-20M", "SmallDoge/Doge-20M", "at most 2048 keys by their values")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Its experts are chosen by the logits of other tokens, too.
    require(config, "is_moe", false)?;
    config.ignore(&["num_experts", "num_experts_per_tok", "norm_topk_prob"]);
    let mut spec = llama::spec(config)?;
    norm_heads(&mut spec);
    set_residual(&mut spec, Residual::WeightedPreNorm);
    let most = config.usize_or("keep_window_size", 2048)?;
    let window = config.optional_usize("sliding_window")?;
    attentions(&mut spec).for_each(|(_, attention)| attention.mask = Mask::Dynamic { most, window });
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnSkip, KeyBias, KeyBiasRate, MixerSkip};
    const LAYER: &str = "{prefix}layers.{layer}.";
    let mut map = llama::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    head_norms(stack);
    modules(stack, LAYER, &[(KeyBias, "self_attn.dt_proj")]);
    for (role, name) in
        [(KeyBiasRate, "self_attn.A"), (MixerSkip, "input_residual"), (FfnSkip, "post_attention_residual")]
    {
        stack.tensor(role.weight(), &[&format!("{LAYER}{name}")], &[]);
    }
    Ok(map)
}
