//! Mamba (Gu and Dao 2023): each layer is an RMS norm and a selective scan; no attention, no MLP, no positions.

use serde_json::json;
use sli_core::{
    BlockSpec, Family, Mamba1Spec, Mixer, ModelSpec, NormSpec, Residual, Result, StackKind, StackMap,
    StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{activation, model, plain_head, require, token_embedding};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules};
use crate::ssm::{mamba1_names, size_or_auto};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "mamba",
    family: Family::Mamba,
    model_types: &["mamba"],
    architectures: &["MambaForCausalLM", "MambaModel"],
    known_models: &[KnownModel::new("Mamba-2.8B", "state-spaces/mamba-2.8b-hf", "")],
    spec,
    weights,
};

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &in_current_words(config)?;
    let hidden_size = config.usize("hidden_size")?;
    let inner_size = match config.optional_usize("intermediate_size")? {
        Some(inner_size) => inner_size,
        None => config.usize_or("expand", 2)? * hidden_size,
    };
    let mixer = Mamba1Spec {
        inner_size,
        num_heads: 1,
        state_size: config.usize_or("state_size", 16)?,
        conv_width: config.usize_or("conv_kernel", 4)?,
        activation: activation(config, "hidden_act", "silu")?,
        dt_rank: size_or_auto(config, "time_step_rank", hidden_size.div_ceil(16))?,
        selection_norm: None,
        conv_bias: config.bool_or("use_conv_bias", true)?,
        projection_bias: config.bool_or("use_bias", false)?,
    };
    of_mixers(config, Mixer::Mamba1(mixer))
}

/// A stack of this mixer, each after a norm.
pub(super) fn of_mixers(config: &HfConfig, mixer: Mixer) -> Result<ModelSpec> {
    // Initial values, and how sums are computed.
    config.ignore(&["time_step_floor", "time_step_init_scheme", "time_step_max", "time_step_min"]);
    config.ignore(&["time_step_scale", "rescale_prenorm_residual", "residual_in_fp32", "fused_add_norm"]);
    config.ignore(&["use_mambapy", "use_associative_scan", "chunk_size"]);
    // What follows from expand.
    config.ignore(&["expand", "intermediate_size", "d_inner"]);
    require(config, "rms_norm", true)?;
    let vocab_size = config.usize("vocab_size")?;
    let norm = NormSpec::rms(config.f64_or("layer_norm_epsilon", 1e-5)?);
    let block = BlockSpec { mixer, cross_attention: None, ffn: None, residual: Residual::PreNorm, norm };
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size: config.usize("hidden_size")?,
        embedding: token_embedding(vocab_size),
        layers: vec![block; config.layers("num_hidden_layers")?],
        final_norm: Some(norm),
    };
    Ok(model(vec![stack], plain_head(config, vocab_size), None))
}

/// The config in the words of transformers, where it has those of the authors' own code.
pub(super) fn in_current_words(config: &HfConfig) -> Result<HfConfig> {
    const PADDED: &str = "pad_vocab_size_multiple";
    if !config.has("d_model") || config.has("hidden_size") {
        config.ignore(&[PADDED, "ssm_cfg", "d_model", "n_layer"]);
        return Ok(config.clone());
    }
    // What the authors' hybrids have besides: attention in some layers, an MLP in all.
    const WITHOUT: &str = "nothing: attention and MLPs beside the scans are not supported";
    if config.usizes("attn_layer_idx")?.is_some_and(|layers| !layers.is_empty()) {
        return Err(config.invalid("attn_layer_idx", WITHOUT));
    }
    if config.count_or("d_intermediate", 0)? > 0 {
        return Err(config.invalid("d_intermediate", WITHOUT));
    }
    config.ignore(&["attn_cfg"]);
    let hidden_size = config.usize("d_model")?;
    let vocab_size = config.usize("vocab_size")?;
    let vocab_size = vocab_size.checked_next_multiple_of(config.usize_or(PADDED, 8)?).unwrap_or(vocab_size);
    let mut words = json!({
        "hidden_size": hidden_size,
        "num_hidden_layers": config.layers("n_layer")?,
        "vocab_size": vocab_size,
        "tie_word_embeddings": config.bool_or("tie_embeddings", true)?,
    });
    let ssm = config.section("ssm_cfg")?.unwrap_or_else(|| config.clone());
    // Which of the two mixers it is, which the class says too; initial values; how sums are computed.
    ssm.ignore(&["layer", "dt_min", "dt_max", "dt_init_floor", "dt_init", "dt_scale", "chunk_size"]);
    ssm.ignore(&["A_init_range", "conv_init", "use_fast_path", "use_mem_eff_path"]);
    require(&ssm, "rmsnorm", true)?;
    require(&ssm, "norm_before_gate", false)?;
    require(&ssm, "D_has_hdim", false)?;
    let (expand, head_dim) = (ssm.usize_or("expand", 2)?, ssm.usize_or("headdim", 64)?);
    for (key, value) in [
        ("expand", json!(expand)),
        ("conv_kernel", json!(ssm.usize_or("d_conv", 4)?)),
        ("use_conv_bias", json!(ssm.bool_or("conv_bias", true)?)),
        ("use_bias", json!(ssm.bool_or("bias", false)?)),
        ("time_step_rank", json!(size_or_auto(&ssm, "dt_rank", hidden_size.div_ceil(16))?)),
        ("head_dim", json!(head_dim)),
        ("num_heads", json!(expand * hidden_size / head_dim)),
        ("n_groups", json!(ssm.usize_or("ngroups", 1)?)),
    ] {
        words[key] = value;
    }
    if let Some(state_size) = ssm.optional_usize("d_state")? {
        words["state_size"] = json!(state_size);
    }
    Ok(config.with(words))
}

pub(super) fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    let mut map = around_mixers(config, true)?;
    mamba1_names(&mut map.stacks[0], "{prefix}layers.{layer}.mixer.");
    Ok(map)
}

/// The names of all but the mixers.
pub(super) fn around_mixers(config: &HfConfig, tied: bool) -> Result<WeightMap> {
    use TensorRole::{FinalNorm, MixerNorm, TokenEmbedding};
    // Transformers and the authors' own code differ in the name of the table.
    const EMBEDDINGS: [&str; 2] = ["{prefix}embeddings.weight", "{prefix}embedding.weight"];
    let mut stack = StackMap::default();
    stack.tensor(TokenEmbedding.weight(), &EMBEDDINGS, &[]);
    modules(&mut stack, "{prefix}", &[(FinalNorm, "norm_f"), (MixerNorm, "layers.{layer}.norm")]);
    let mut map = WeightMap { prefixes: vec!["backbone.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or(config.first_of(&["tie_word_embeddings", "tie_embeddings"]), tied)?;
    lm_head(&mut map, tied, &EMBEDDINGS, "lm_head.weight");
    Ok(map)
}
