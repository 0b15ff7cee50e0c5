//! Baichuan (Baichuan 2023): Llama with queries, keys and values in one matrix. The 13B models have ALiBi in place of
//! rotations, Baichuan2 a head whose rows have length one.

use sli_core::{Alibi, Family, ModelSpec, PositionSpec, Result, TensorRole, WeightMap};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::maps::Fused;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "baichuan",
    family: Family::Llama,
    model_types: &["baichuan"],
    architectures: &["BaiChuanForCausalLM", "BaichuanForCausalLM"],
    known_models: &[
        KnownModel::new("Baichuan2-7B", "baichuan-inc/Baichuan2-7B-Base", "rows of the head of length one"),
        KnownModel::new(
            "Baichuan2-13B",
            "baichuan-inc/Baichuan2-13B-Base",
            "ALiBi, rows of the head of length one",
        ),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Released configs do not say it otherwise: Baichuan2 has another vocabulary, and ALiBi needs no maximum.
    const BAICHUAN2_VOCAB_SIZE: usize = 125_696;
    config.ignore(&["model_max_length", "z_loss_weight", "_from_model_config"]);
    let mut spec = llama::spec(config)?;
    if !config.has("max_position_embeddings") {
        attentions(&mut spec)
            .for_each(|(_, attention)| attention.position = PositionSpec::Alibi(Alibi::Standard));
    }
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
