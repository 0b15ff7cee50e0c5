//! Which layers of a decoder see a window of keys only.

use sli_core::{Mask, ModelSpec, Result};

use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::layer_types::layers_of_type;

/// The rule that every `period`-th layer sees everything.
pub(crate) fn all_but_every(period: usize) -> impl Fn(usize) -> bool {
    move |layer| !(layer + 1).is_multiple_of(period)
}

/// Which layers have a window: as `layer_types` says, or where the config has none as `otherwise` does.
pub(crate) fn sliding_layers(
    config: &HfConfig,
    num_layers: usize,
    otherwise: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    layers_of_type(config, num_layers, "sliding_attention", otherwise)
}

/// Gives these layers the window that `sliding_window` names, and says which they are.
pub(crate) fn slide_some(
    spec: &mut ModelSpec,
    config: &HfConfig,
    otherwise: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    let sliding = sliding_layers(config, spec.num_layers(), otherwise)?;
    let window = config.optional_usize("sliding_window")?;
    for (_, attention) in attentions(spec).filter(|(layer, _)| sliding[*layer]) {
        let window = window.ok_or_else(|| config.invalid("sliding_window", "the window of some layers"))?;
        attention.mask = Mask::Sliding { window };
    }
    Ok(sliding)
}
