//! NeoBERT (Le Breton et al. 2025): Llama that sees in both directions, with a head of its own that has a bias.
//! Queries, keys and values are one matrix per head, gate and up are one matrix.

use serde_json::json;
use sli_core::{
    Family, Ffn, HeadSpec, Mask, Mixer, ModelSpec, Result, StackKind, StackMap, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::attentions;
use crate::config::HfConfig;
use crate::maps::{Fused, modules, neighbour_pairs};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "neobert",
    family: Family::Encoder,
    model_types: &["neobert"],
    architectures: &["NeoBERTLMHead", "NeoBERT"],
    known_models: &[KnownModel::new("NeoBERT", "chandar-lab/NeoBERT", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Initial values, kernels, and the size of another task's head.
    config.ignore(&["embedding_init_range", "decoder_init_range", "flash_attention", "ngpt", "base_scale"]);
    config.ignore(&["classifier_init_range", "kwargs", "dim_head"]);
    // Two thirds of what the config says, in whole eights.
    let inner = (2 * config.usize("intermediate_size")? / 3).div_ceil(8).max(1) * 8;
    let renamed = json!({
        "intermediate_size": inner,
        "rms_norm_eps": config.f64_or("norm_eps", 1e-6)?,
        "max_position_embeddings": config.optional_usize("max_length")?,
    });
    let mut spec = llama::spec(&config.with(renamed))?;
    attentions(&mut spec).for_each(|(_, attention)| attention.mask = Mask::Bidirectional);
    spec.stacks[0].kind = StackKind::Encoder;
    let vocab_size = spec.stacks[0].embedding.vocab_size;
    spec.head = spec.head.map(|_| HeadSpec { bias: true, ..HeadSpec::plain(vocab_size) });
    Ok(spec)
}

fn weights(_config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    modules(&mut stack, "{prefix}", &[(TokenEmbedding, "encoder"), (FinalNorm, "layer_norm")]);
    let names = [(MixerNorm, "attention_norm"), (AttnOut, "wo"), (FfnNorm, "ffn_norm"), (MlpDown, "ffn.w3")];
    modules(&mut stack, "{prefix}transformer_encoder.{layer}.", &names);
    let block = &spec.stacks[0].layers[0];
    if let Mixer::Attention(attention) = &block.mixer {
        let (groups, rows, rope) = (attention.num_heads, attention.head_dim, neighbour_pairs(spec));
        let qkv = Fused::new("{prefix}transformer_encoder.{layer}.qkv");
        Fused { groups, rope: &rope, ..qkv }
            .split(&mut stack, &[(AttnQ, rows), (AttnK, rows), (AttnV, rows)]);
    }
    if let Some(Ffn::GatedMlp(mlp)) = &block.ffn {
        let rows = mlp.intermediate_size;
        Fused::new("{prefix}transformer_encoder.{layer}.ffn.w12")
            .split(&mut stack, &[(MlpGate, rows), (MlpUp, rows)]);
    }
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks: vec![stack], ..WeightMap::default() };
    map.head.module(LmHead, "decoder");
    map.ignored.push("{prefix}freqs_cis".into());
    Ok(map)
}
