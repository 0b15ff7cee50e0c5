//! Mamba-2 (Dao and Gu 2024): Mamba with a scan by heads, each of which forgets as a whole, and a norm of what it reads.

use sli_core::{Family, GatedNormSpec, Mamba2Spec, Mixer, ModelSpec, NormSpec, Result, WeightMap};

use super::mamba;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::activation;
use crate::config::HfConfig;
use crate::ssm::{head_dim, mamba2_names, step_limits};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "mamba2",
    family: Family::Mamba,
    model_types: &["mamba2"],
    architectures: &["Mamba2ForCausalLM", "Mamba2Model"],
    known_models: &[
        KnownModel::new("Mamba2-2.7B", "state-spaces/mamba2-2.7b", "one group of heads"),
        KnownModel::new("Mamba-Codestral-7B", "mistralai/Mamba-Codestral-7B-v0.1", "8 groups of heads"),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // The class has a matrix for the step and norms what is gated, whatever these say.
    config.ignore(&["time_step_rank", "norm_before_gate"]);
    let config = &mamba::in_current_words(config)?;
    let inner_size = config.usize_or("expand", 2)? * config.usize("hidden_size")?;
    let num_heads = config.usize_or("num_heads", 128)?;
    let bias = config.bool_or("use_bias", false)?;
    let [min_step, max_step] = step_limits(config, "time_step_limit")?;
    let norm = NormSpec::rms(config.f64_or("layer_norm_epsilon", 1e-5)?);
    let mixer = Mamba2Spec {
        num_heads,
        head_dim: head_dim(config, "head_dim", inner_size, num_heads)?,
        num_groups: config.usize_or("n_groups", 8)?,
        state_size: config.usize_or("state_size", 128)?,
        conv_width: config.usize_or("conv_kernel", 4)?,
        activation: activation(config, "hidden_act", "silu")?,
        conv_bias: config.bool_or("use_conv_bias", true)?,
        input_bias: bias,
        output_bias: bias,
        min_step,
        max_step,
        norm: Some(GatedNormSpec { norm, before_gate: false }),
        multipliers: None,
    };
    mamba::of_mixers(config, Mixer::Mamba2(mixer))
}

fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    // The authors' own code ties the head, the class in transformers does not.
    let mut map = mamba::around_mixers(config, config.has("d_model"))?;
    mamba2_names(&mut map.stacks[0], "{prefix}layers.{layer}.mixer.");
    Ok(map)
}
