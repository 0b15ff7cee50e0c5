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
    let Some(types) = config.strs("layer_types")? else {
        return Ok((0..num_layers).map(otherwise).collect());
    };
    if types.len() != num_layers {
        let message = format!("'layer_types' has {} entries for {num_layers} layers", types.len());
        return Err(config.error(message));
    }
    let is_of_kind = |of_layer: &String| match of_layer.as_str() {
        "full_attention" => Ok(false),
        other if other == kind => Ok(true),
        _ => Err(config.invalid("layer_types", &format!("full_attention or {kind} for each layer"))),
    };
    types.iter().map(is_of_kind).collect()
}
