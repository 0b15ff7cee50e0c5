//! CodeGen (Nijkamp et al. 2022): the mathematics of GPT-J, with queries, values and keys in one matrix of four blocks.

use sli_core::{Family, ModelSpec, Result, TensorRole, WeightMap};

use super::gptj;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::maps::{Fused, neighbour_pairs};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "codegen",
    family: Family::Gpt,
    model_types: &["codegen"],
    architectures: &["CodeGenForCausalLM", "CodeGenModel"],
    known_models: &[KnownModel::new("CodeGen-16B", "Salesforce/codegen-16B-mono", "")],
    spec: gptj::spec,
    weights,
};

/// The blocks of the fused matrix, one for each core of the machine that it was trained on.
const BLOCKS: usize = 4;

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnQ, AttnV};
    let mut map = gptj::map(config)?;
    let hidden = spec.stacks[0].hidden_size;
    if !hidden.is_multiple_of(BLOCKS) {
        return Err(
            config.error(format!("a hidden size of {hidden} cannot be shared out over {BLOCKS} blocks"))
        );
    }
    let rows = hidden / BLOCKS;
    let qkv = Fused::new("{prefix}h.{layer}.attn.qkv_proj");
    Fused { groups: BLOCKS, rope: &neighbour_pairs(spec), ..qkv }
        .split(&mut map.stacks[0], &[(AttnQ, rows), (AttnV, rows), (AttnK, rows)]);
    Ok(map)
}
