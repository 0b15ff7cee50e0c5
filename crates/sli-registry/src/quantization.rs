//! How a config says that its checkpoint is stored in few bits.

use sli_core::Result;

use crate::config::HfConfig;

/// The methods of `quantization_config` whose checkpoints are read as they are. Others change names and layouts.
pub(crate) fn section(config: &HfConfig, method: &str) -> Result<Option<HfConfig>> {
    let Some(section) = config.section("quantization_config")? else { return Ok(None) };
    if !section.has("quant_method") || section.str("quant_method")? != method {
        return Ok(None);
    }
    // How activations would be rounded, and which modules are not: the checkpoint itself says that.
    section.ignore(&[
        "activation_scheme",
        "fmt",
        "scale_fmt",
        "modules_to_not_convert",
        "ignored_layers",
        "dequantize",
    ]);
    Ok(Some(section))
}

/// Rows and columns of the blocks that share a scale, in checkpoints with 8-bit floats; `None` where a matrix has one
/// scale or none.
pub(crate) fn fp8_block(config: &HfConfig) -> Result<Option<[usize; 2]>> {
    let Some(section) = section(config, "fp8")? else { return Ok(None) };
    match section.usizes("weight_block_size")?.as_deref() {
        None => Ok(None),
        Some([rows, columns]) if *rows > 0 && *columns > 0 => Ok(Some([*rows, *columns])),
        Some(_) => Err(section.invalid("weight_block_size", "the rows and the columns of a block")),
    }
}

/// Are experts stored as MXFP4?
pub(crate) fn is_mxfp4(config: &HfConfig) -> Result<bool> {
    Ok(section(config, "mxfp4")?.is_some())
}
