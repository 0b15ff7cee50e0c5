//! Layers of two kinds, as `layer_types` tells them apart.

use sli_core::Result;

use crate::config::HfConfig;

/// Which layers are of the type `kind`, where the others are `full_attention`: as `layer_types` says, or where the
/// config has none as `otherwise` does.
pub(crate) fn layers_of_type(
    config: &HfConfig,
    num_layers: usize,
    kind: &str,
    otherwise: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    layers_of_kind(config, "layer_types", num_layers, [&[kind], &["full_attention"]], otherwise)
}

/// Which layers are of the first of two kinds, each of which has one name or several: as the list under `key` says,
/// or where the config has none as `otherwise` does.
pub(crate) fn layers_of_kind(
    config: &HfConfig,
    key: &str,
    num_layers: usize,
    [kind, other]: [&[&str]; 2],
    otherwise: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    let Some(types) = config.strs(key)? else {
        return Ok((0..num_layers).map(otherwise).collect());
    };
    if types.len() != num_layers {
        let message = format!("'{key}' has {} entries for {num_layers} layers", types.len());
        return Err(config.error(message));
    }
    let is_of_kind = |of_layer: &String| match of_layer.as_str() {
        name if other.contains(&name) => Ok(false),
        name if kind.contains(&name) => Ok(true),
        _ => Err(config.invalid(key, &format!("{} or {} for each layer", other[0], kind[0]))),
    };
    types.iter().map(is_of_kind).collect()
}
