//! State-space mixers, as configs and checkpoints of pure models and of hybrids describe them.

use sli_core::{
    GatedNormSpec, LoadOp, Mamba1Spec, Mamba2Spec, Mixer, ModelSpec, NormSpec, Result, StackMap, TensorRole,
};

use crate::blocks::{activation, layers};
use crate::config::HfConfig;
use crate::layer_types::layers_of_kind;
use crate::maps::modules;

/// `key` is a size, or "auto" for what follows from others.
pub(crate) fn size_or_auto(config: &HfConfig, key: &str, auto: usize) -> Result<usize> {
    match config.str_or(key, "auto") {
        Ok("auto") => Ok(auto),
        Ok(_) => Err(config.invalid(key, "an integer or \"auto\"")),
        Err(_) => config.usize(key),
    }
}

/// Mamba's mixer, by the keys of hybrids; `act` is that of its activation.
pub(crate) fn mamba1_of_hybrid(config: &HfConfig, hidden_size: usize, act: &str) -> Result<Mamba1Spec> {
    Ok(Mamba1Spec {
        inner_size: config.usize_or("mamba_expand", 2)? * hidden_size,
        num_heads: 1,
        state_size: config.usize_or("mamba_d_state", 16)?,
        conv_width: config.usize_or("mamba_d_conv", 4)?,
        activation: activation(config, act, "silu")?,
        dt_rank: size_or_auto(config, "mamba_dt_rank", hidden_size.div_ceil(16))?,
        selection_norm: None,
        conv_bias: config.bool_or("mamba_conv_bias", true)?,
        projection_bias: config.bool_or("mamba_proj_bias", false)?,
    })
}

/// Mamba-2's mixer, by the keys of hybrids, with a norm like those of the layers.
pub(crate) fn mamba2_of_hybrid(config: &HfConfig, inner_size: usize, norm: NormSpec) -> Result<Mamba2Spec> {
    // How sums are cut up.
    config.ignore(&["mamba_chunk_size"]);
    let num_heads = config.usize_or("mamba_n_heads", 128)?;
    let bias = config.bool_or("mamba_proj_bias", false)?;
    let [min_step, max_step] = step_limits(config, "time_step_limit")?;
    Ok(Mamba2Spec {
        num_heads,
        head_dim: head_dim(config, "mamba_d_head", inner_size, num_heads)?,
        num_groups: config.usize_or("mamba_n_groups", 1)?,
        state_size: config.usize_or("mamba_d_state", 256)?,
        conv_width: config.usize_or("mamba_d_conv", 4)?,
        activation: activation(config, "hidden_act", "silu")?,
        conv_bias: config.bool_or("mamba_conv_bias", true)?,
        input_bias: bias,
        output_bias: bias,
        min_step,
        max_step,
        norm: Some(GatedNormSpec { norm, before_gate: false }),
        multipliers: None,
    })
}

/// The width of a head, which must be what follows from the others.
pub(crate) fn head_dim(config: &HfConfig, key: &str, inner_size: usize, num_heads: usize) -> Result<usize> {
    let head_dim = size_or_auto(config, key, inner_size / num_heads)?;
    if head_dim.checked_mul(num_heads) == Some(inner_size) {
        return Ok(head_dim);
    }
    let message = format!("{num_heads} heads of {head_dim} are not the {inner_size} channels of the scan");
    Err(config.error(message))
}

/// The bounds of a step, which follows a softplus: no bound where that has none.
pub(crate) fn step_limits(config: &HfConfig, key: &str) -> Result<[Option<f64>; 2]> {
    match config.f64s(key)?.as_deref() {
        None => Ok([None; 2]),
        Some([min, max]) if min <= max && min.is_finite() => {
            Ok([Some(*min).filter(|min| *min > 0.0), Some(*max).filter(|max| max.is_finite())])
        }
        Some(_) => Err(config.invalid(key, "the smallest and the largest step")),
    }
}

/// Which layers have a state in place of attention: as `key` says under newer or older names, or where the config has
/// none as `otherwise` does.
pub(crate) fn recurrent_layers(
    config: &HfConfig,
    key: &str,
    num_layers: usize,
    otherwise: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    let kinds = [&["linear_attention", "mamba"][..], &["full_attention", "attention"][..]];
    layers_of_kind(config, key, num_layers, kinds, otherwise)
}

/// The mixer in place of the attention of these layers.
pub(crate) fn recur(spec: &mut ModelSpec, recurrent: &[bool], mixer: &Mixer) {
    for (layer, block) in layers(spec) {
        if recurrent[layer] {
            block.mixer = mixer.clone();
        }
    }
}

/// The names of Mamba's mixer under `base`.
pub(crate) fn mamba1_names(map: &mut StackMap, base: &str) {
    use TensorRole::{SsmDt, SsmIn, SsmOut, SsmX};
    let names = [(SsmIn, "in_proj"), (SsmX(0), "x_proj"), (SsmDt(0), "dt_proj"), (SsmOut, "out_proj")];
    modules(map, base, &names);
    scan_names(map, base);
}

/// The names of Mamba-2's mixer under `base`.
pub(crate) fn mamba2_names(map: &mut StackMap, base: &str) {
    use TensorRole::{SsmDt, SsmIn, SsmNorm, SsmOut};
    modules(map, base, &[(SsmIn, "in_proj"), (SsmNorm, "norm"), (SsmOut, "out_proj")]);
    map.tensor(SsmDt(0).bias(), &[&format!("{base}dt_bias")], &[]);
    scan_names(map, base);
}

fn scan_names(map: &mut StackMap, base: &str) {
    use TensorRole::{SsmALog, SsmConv, SsmD};
    map.module_with(SsmConv, &format!("{base}conv1d"), &[LoadOp::DropAxis(1)]);
    map.tensor(SsmALog(0).weight(), &[&format!("{base}A_log")], &[]);
    map.tensor(SsmD(0).weight(), &[&format!("{base}D")], &[]);
}
