//! Baichuan-7B (Baichuan 2023): Llama with queries, keys and values in one matrix. The larger and later models of
//! this name have other positions (13B) or a head whose rows have length one (Baichuan2).

use sli_core::{Family, ModelSpec, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::Architecture;
use crate::config::HfConfig;
use crate::maps::Fused;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "baichuan",
    family: Family::Llama,
    model_types: &["baichuan"],
    architectures: &["BaiChuanForCausalLM", "BaichuanForCausalLM"],
    known_models: &[],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Released configs do not say it otherwise: Baichuan2 has another vocabulary, and ALiBi needs no maximum.
    const BAICHUAN2_VOCAB_SIZE: usize = 125_696;
    config.ignore(&["model_max_length"]);
    if !config.has("max_position_embeddings") {
        return Err(config.error("the ALiBi positions of Baichuan-13B are not supported"));
    }
    let mut spec = llama::spec(config)?;
    if let Some(head) = &mut spec.head {
        head.unit_rows = config.bool_or("norm_head", head.vocab_size == BAICHUAN2_VOCAB_SIZE)?;
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnQ, AttnV};
    let hidden = spec.stacks[0].hidden_size;
    let mut map = llama::weights(config, spec)?;
    Fused::new("{prefix}layers.{layer}.self_attn.W_pack")
        .split(&mut map.stacks[0], &[(AttnQ, hidden), (AttnK, hidden), (AttnV, hidden)]);
    Ok(map)
}
