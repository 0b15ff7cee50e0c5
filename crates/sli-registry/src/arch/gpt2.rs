//! GPT-2 (Radford et al. 2019): learned positions, layer norms before each branch, biases everywhere. Queries, keys
//! and values are one matrix, and all matrices are stored [in, out].

use sli_core::{
    AttentionSpec, BlockSpec, EmbeddingSpec, Family, Ffn, LoadOp, Mask, Mixer, MlpSpec, ModelSpec, NormSpec,
    Positions, Residual, Result, StackKind, StackMap, StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{activation, model, multi_head, plain_head, require, share_per_head};
use crate::config::HfConfig;
use crate::maps::{Fused, lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gpt2",
    family: Family::Gpt,
    model_types: &["gpt2"],
    architectures: &["GPT2LMHeadModel", "GPT2Model", "GPT2DoubleHeadsModel"],
    known_models: &[
        KnownModel::new("GPT-2 124M..1.5B", "openai-community/gpt2", ""),
        KnownModel::new("DistilGPT2", "distilbert/distilgpt2", "6 layers"),
        KnownModel::new("GPT-SW3-40B", "AI-Sweden-Models/gpt-sw3-40b", ""),
        KnownModel::new("Cerebras-GPT-13B", "cerebras/Cerebras-GPT-13B", ""),
    ],
    spec,
    weights,
};

pub(crate) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // A second name of n_positions; in which order products are computed; the head of another task.
    config.ignore(&["n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout"]);
    config.ignore(&["summary_proj_to_labels", "summary_type", "summary_use_proj"]);
    require(config, "add_cross_attention", false)?;
    let hidden_size = config.usize(config.first_of(&["n_embd", "hidden_size"]))?;
    let vocab_size = config.usize("vocab_size")?;
    let num_positions = config.usize(config.first_of(&["n_positions", "max_position_embeddings"]))?;
    let num_heads = config.usize(config.first_of(&["n_head", "num_attention_heads"]))?;
    let num_layers = config.layers(config.first_of(&["n_layer", "num_hidden_layers"]))?;
    let norm = NormSpec::layer(config.f64_or("layer_norm_epsilon", 1e-5)?);
    let mlp = MlpSpec {
        intermediate_size: config.usize_or("n_inner", 4 * hidden_size)?,
        activation: activation(config, "activation_function", "gelu_new")?,
        bias: true,
    };
    let head_dim = share_per_head(config, hidden_size, num_heads)?;
    let attention = multi_head(num_heads, head_dim, Mask::Causal, true);
    let scaled = config.bool_or("scale_attn_weights", true)?;
    let scaled_by_layer = config.bool_or("scale_attn_by_inverse_layer_idx", false)?;
    let block = |layer: usize| {
        let root = if scaled { attention.scale } else { 1.0 };
        let scale = if scaled_by_layer { root / (layer + 1) as f64 } else { root };
        BlockSpec {
            mixer: Mixer::Attention(AttentionSpec { scale, ..attention.clone() }),
            cross_attention: None,
            ffn: Some(Ffn::Mlp(mlp)),
            residual: Residual::PreNorm,
            norm,
        }
    };
    let positions = Some(Positions::Learned { count: num_positions });
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: EmbeddingSpec { positions, ..EmbeddingSpec::tokens(vocab_size) },
        layers: (0..num_layers).map(block).collect(),
        final_norm: Some(norm),
    };
    Ok(model(vec![stack], plain_head(config, vocab_size), Some(num_positions)))
}

pub(crate) fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let hidden = spec.stacks[0].hidden_size;
    let mut stack = StackMap::default();
    let names = [(TokenEmbedding, "wte"), (PositionEmbedding, "wpe"), (FinalNorm, "ln_f")];
    modules(&mut stack, "{prefix}", &names);
    modules(&mut stack, "{prefix}h.{layer}.", &[(MixerNorm, "ln_1"), (FfnNorm, "ln_2")]);
    Fused { before: &[LoadOp::Transpose], ..Fused::new("{prefix}h.{layer}.attn.c_attn") }
        .split(&mut stack, &[(AttnQ, hidden), (AttnK, hidden), (AttnV, hidden)]);
    for (role, name) in [(AttnOut, "attn.c_proj"), (MlpUp, "mlp.c_fc"), (MlpDown, "mlp.c_proj")] {
        stack.module_with(role, &format!("{{prefix}}h.{{layer}}.{name}"), &[LoadOp::Transpose]);
    }
    let mut map =
        WeightMap { prefixes: vec!["transformer.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}wte.weight"], "lm_head.weight");
    // Causal masks that old checkpoints carry, and heads of other tasks.
    let unused = [
        "{prefix}h.{layer}.attn.bias",
        "{prefix}h.{layer}.attn.masked_bias",
        "multiple_choice_head.*",
        "score.*",
    ];
    map.ignored.extend(unused.map(String::from));
    Ok(map)
}
