//! Linear layers with weights of -1, 0 and 1 and inputs of 8 bits, in any architecture (BitNet b1.58; Ma et al. 2024).

use sli_core::{LinearInputs, LoadOp, ModelSpec, Place, Result, TensorRole, WeightMap};

use crate::blocks::require;
use crate::config::HfConfig;
use crate::quantization::section;

/// The linear layers that a block may have.
const LINEAR: [TensorRole; 7] = [
    TensorRole::AttnQ,
    TensorRole::AttnK,
    TensorRole::AttnV,
    TensorRole::AttnOut,
    TensorRole::MlpGate,
    TensorRole::MlpUp,
    TensorRole::MlpDown,
];

/// Changes a model as its `quantization_config` says, where that is BitNet's: all linear layers but the head.
pub(crate) fn make_ternary(spec: &mut ModelSpec, map: &mut WeightMap, config: &HfConfig) -> Result<()> {
    let Some(section) = section(config, "bitnet")? else { return Ok(()) };
    let step = load_step(&section)?;
    for (stack, stack_spec) in spec.stacks.iter().enumerate() {
        for (layer, block) in stack_spec.layers.iter().enumerate() {
            for need in block.needs(stack_spec.hidden_size).into_iter().filter(|need| need.shape.len() > 1) {
                let source = map.source(Place::Layer { stack, layer }, need.key, "");
                let is_apart = source.is_some_and(|source| source.ops.is_empty() && source.rest.is_empty());
                if !is_apart || !LINEAR.contains(&need.key.role) {
                    const EXPECTED: &str = "another method: ternary weights are supported where a layer is \
                        attention and an MLP with a matrix for each projection";
                    return Err(section.invalid("quant_method", EXPECTED));
                }
            }
        }
    }
    for role in LINEAR {
        map.stacks.iter_mut().for_each(|stack| {
            stack.then(role.weight(), step);
        });
    }
    spec.linear_inputs = LinearInputs::EightBits;
    Ok(())
}

/// How the weights become ternary.
fn load_step(section: &HfConfig) -> Result<LoadOp> {
    // How wide the codes are, and what a norm that is not there adds to a variance.
    section.ignore(&["bits", "rms_norm_eps"]);
    require(section, "use_rms_norm", false)?;
    if let Some(names) = section.strs("modules_to_not_convert")? {
        let is_head_or_table =
            |name: &String| ["lm_head", "embed_tokens", "model.embed_tokens"].contains(&&**name);
        if !names.iter().all(is_head_or_table) || !names.iter().any(|name| name == "lm_head") {
            return Err(
                section.invalid("modules_to_not_convert", "null, or the head and the embedding alone")
            );
        }
    }
    match (section.str_or("linear_class", "bitlinear")?, section.str_or("quantization_mode", "offline")?) {
        ("bitlinear", "online" | "offline") => Ok(LoadOp::TernaryCodes { divided: true }),
        ("autobitlinear", "offline") => Ok(LoadOp::TernaryCodes { divided: false }),
        ("autobitlinear", "online") => Ok(LoadOp::Ternary),
        ("bitlinear" | "autobitlinear", _) => {
            Err(section.invalid("quantization_mode", "'online' or 'offline'"))
        }
        _ => Err(section.invalid("linear_class", "'bitlinear' or 'autobitlinear'")),
    }
}
