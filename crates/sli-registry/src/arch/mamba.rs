//! Mamba (Gu and Dao 2023): each layer is an RMS norm and a selective scan; no attention, no MLP, no positions.

use sli_core::{
    BlockSpec, Family, LoadOp, Mamba1Spec, Mixer, ModelSpec, NormSpec, Residual, Result, StackKind, StackMap,
    StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{model, plain_head, require, token_embedding};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "mamba",
    family: Family::Mamba,
    model_types: &["mamba"],
    architectures: &["MambaForCausalLM", "MambaModel"],
    known_models: &[KnownModel::new("Mamba-2.8B", "state-spaces/mamba-2.8b-hf", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Initial values, how sums are computed, and the inner size under names that follow from expand.
    config.ignore(&["time_step_floor", "time_step_init_scheme", "time_step_max", "time_step_min"]);
    config.ignore(&["time_step_scale", "rescale_prenorm_residual", "residual_in_fp32", "fused_add_norm"]);
    config.ignore(&["use_mambapy", "use_associative_scan", "pad_vocab_size_multiple", "ssm_cfg"]);
    config.ignore(&["intermediate_size", "d_inner"]);
    if config.str_or("hidden_act", "silu")? != "silu" {
        return Err(config.invalid("hidden_act", "silu"));
    }
    require(config, "rms_norm", true)?;
    let hidden_size = config.usize(config.first_of(&["hidden_size", "d_model"]))?;
    let vocab_size = config.usize("vocab_size")?;
    let norm = NormSpec::rms(config.f64_or("layer_norm_epsilon", 1e-5)?);
    let mixer = Mamba1Spec {
        inner_size: config.usize_or("expand", 2)? * hidden_size,
        state_size: config.usize_or("state_size", 16)?,
        conv_width: config.usize_or("conv_kernel", 4)?,
        dt_rank: dt_rank(config, hidden_size)?,
        conv_bias: config.bool_or("use_conv_bias", true)?,
        projection_bias: config.bool_or("use_bias", false)?,
    };
    let block = BlockSpec {
        mixer: Mixer::Mamba1(mixer),
        cross_attention: None,
        ffn: None,
        residual: Residual::PreNorm,
        norm,
    };
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: token_embedding(vocab_size),
        layers: vec![block; config.layers(config.first_of(&["num_hidden_layers", "n_layer"]))?],
        final_norm: Some(norm),
    };
    Ok(model(vec![stack], plain_head(config, vocab_size), None))
}

/// `time_step_rank` is a number, or "auto" for a sixteenth of the hidden size.
fn dt_rank(config: &HfConfig, hidden_size: usize) -> Result<usize> {
    const KEY: &str = "time_step_rank";
    match config.str_or(KEY, "auto") {
        Ok("auto") => Ok(hidden_size.div_ceil(16)),
        Ok(_) => Err(config.invalid(KEY, "an integer or \"auto\"")),
        Err(_) => config.usize(KEY),
    }
}

fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    // Transformers and the authors' own code differ in the name of the table.
    const EMBEDDINGS: [&str; 2] = ["{prefix}embeddings.weight", "{prefix}embedding.weight"];
    let mut stack = StackMap::default();
    stack.tensor(TokenEmbedding.weight(), &EMBEDDINGS, &[]);
    stack.module(FinalNorm, "{prefix}norm_f");
    let names = [
        (MixerNorm, "norm"),
        (SsmIn, "mixer.in_proj"),
        (SsmX, "mixer.x_proj"),
        (SsmDt, "mixer.dt_proj"),
        (SsmOut, "mixer.out_proj"),
    ];
    modules(&mut stack, "{prefix}layers.{layer}.", &names);
    stack.module_with(SsmConv, "{prefix}layers.{layer}.mixer.conv1d", &[LoadOp::DropAxis(1)]);
    stack.tensor(SsmALog.weight(), &["{prefix}layers.{layer}.mixer.A_log"], &[]);
    stack.tensor(SsmD.weight(), &["{prefix}layers.{layer}.mixer.D"], &[]);
    let mut map = WeightMap { prefixes: vec!["backbone.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &EMBEDDINGS, "lm_head.weight");
    Ok(map)
}
