//! GPT-BigCode (Ben Allal et al. 2023; StarCoder): GPT-2 with one key head for all query heads, and matrices stored
//! [out, in].

use serde_json::json;
use sli_core::{Family, Mixer, ModelSpec, Result, TensorRole, WeightMap};

use super::gpt2;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::maps::{Fused, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gpt_bigcode",
    family: Family::Gpt,
    model_types: &["gpt_bigcode"],
    architectures: &["GPTBigCodeForCausalLM", "GPTBigCodeLMHeadModel", "GPTBigCodeModel"],
    known_models: &[
        KnownModel::new("SantaCoder-1.1B", "bigcode/gpt_bigcode-santacoder", ""),
        KnownModel::new("StarCoder-15.5B", "bigcode/starcoder", ""),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // In which precision and with which kernel the softmax is computed; the key heads follow from multi_query.
    config.ignore(&["attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "num_key_value_heads"]);
    config.ignore(&["inference_runner", "max_batch_size", "max_sequence_length", "pad_key_length"]);
    config.ignore(&["pre_allocate_kv_cache", "validate_runner_input"]);
    let mut spec = gpt2::spec(&config.with_defaults(json!({ "activation_function": "gelu_pytorch_tanh" })))?;
    if config.bool_or("multi_query", true)? {
        attentions(&mut spec).for_each(|(_, attention)| attention.num_kv_heads = 1);
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnOut, AttnQ, AttnV, MlpDown, MlpUp};
    let mut map = gpt2::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    if let Mixer::Attention(attention) = &spec.stacks[0].layers[0].mixer {
        let (heads, rows) = (attention.num_heads, attention.head_dim);
        let c_attn = Fused::new("{prefix}h.{layer}.attn.c_attn");
        if attention.num_kv_heads == 1 {
            c_attn.split(stack, &[(AttnQ, heads * rows), (AttnK, rows), (AttnV, rows)]);
        } else {
            let per_head = Fused { groups: heads, ..c_attn };
            per_head.split(stack, &[(AttnQ, rows), (AttnK, rows), (AttnV, rows)]);
        }
    }
    let names = [(AttnOut, "attn.c_proj"), (MlpUp, "mlp.c_fc"), (MlpDown, "mlp.c_proj")];
    modules(stack, "{prefix}h.{layer}.", &names);
    Ok(map)
}
