//! OPT (Zhang et al. 2022): layer norms before each branch, learned positions that count from 2, biases everywhere.
//! The 350M model has its norms after each branch and narrower token rows; Galactica has GELU in place of ReLU, and where
//! a copy of it says so neither biases nor weights of norms.

use sli_core::{
    BlockSpec, EmbeddingSpec, Family, Ffn, Mask, Mixer, MlpSpec, ModelSpec, Narrow, NormKind, NormSpec,
    Positions, Residual, Result, StackKind, StackMap, StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{activation, model, multi_head, plain_head, require, share_per_head};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules, positions_after};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "opt",
    family: Family::Opt,
    model_types: &["opt"],
    architectures: &["OPTForCausalLM", "OPTModel"],
    known_models: &[
        KnownModel::new("OPT-125M", "facebook/opt-125m", ""),
        KnownModel::new("OPT-350M", "facebook/opt-350m", "norms after each branch, token rows of 512"),
        KnownModel::new("OPT-1.3B", "facebook/opt-1.3b", ""),
        KnownModel::new("OPT-30B", "facebook/opt-30b", ""),
        KnownModel::new("OPT-66B", "facebook/opt-66b", ""),
        KnownModel::new("OPT-IML-30B / OPT-175B", "facebook/opt-iml-30b", ""),
        KnownModel::new("Galactica-120B", "facebook/galactica-120b", "GELU"),
    ],
    spec,
    weights,
};

/// Rows of the table of positions that no position uses.
pub(super) const UNUSED_POSITIONS: usize = 2;

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // What older exports say of the head and of the embedding: as the class does it.
    config.ignore(&["output_projection", "learned_embeddings"]);
    require(config, "scale_embeddings", false)?;
    let hidden_size = config.usize("hidden_size")?;
    let token_width = config.usize_or("word_embed_proj_dim", hidden_size)?;
    let weighted = config.bool_or("layer_norm_elementwise_affine", true)?;
    let kind = if weighted { NormKind::Layer } else { NormKind::LayerUnweighted };
    // The class does not let the config choose it.
    let norm = NormSpec { kind, eps: 1e-5 };
    let vocab_size = config.usize("vocab_size")?;
    let num_positions = config.usize("max_position_embeddings")?;
    let num_heads = config.usize("num_attention_heads")?;
    let head_dim = share_per_head(config, hidden_size, num_heads)?;
    let bias = config.bool_or("enable_bias", true)?;
    let norm_before = config.bool_or("do_layer_norm_before", true)?;
    let norm_removed = config.bool_or("_remove_final_layer_norm", false)?;
    let mlp = MlpSpec {
        intermediate_size: config.usize("ffn_dim")?,
        activation: activation(config, "activation_function", "relu")?,
        bias,
    };
    let block = BlockSpec {
        mixer: Mixer::Attention(multi_head(num_heads, head_dim, Mask::Causal, bias)),
        cross_attention: None,
        ffn: Some(Ffn::Mlp(mlp)),
        residual: if norm_before { Residual::PreNorm } else { Residual::PostNorm },
        norm,
    };
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: EmbeddingSpec {
            narrow: (token_width != hidden_size).then_some(Narrow::Tokens { width: token_width }),
            positions: Some(Positions::Learned { count: num_positions }),
            ..EmbeddingSpec::tokens(vocab_size)
        },
        layers: vec![block; config.layers("num_hidden_layers")?],
        final_norm: (norm_before && !norm_removed).then_some(norm),
    };
    Ok(model(vec![stack], plain_head(config, vocab_size), Some(num_positions)))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = stack_weights();
    let names =
        [(TokenProjection, "project_in"), (FinalNorm, "final_layer_norm"), (FinalProjection, "project_out")];
    modules(&mut stack, "{prefix}", &names);
    let count = spec.stacks[0].embedding.positions.and_then(Positions::count).unwrap_or(0);
    positions_after(&mut stack, "{prefix}embed_positions", UNUSED_POSITIONS, count);
    let mut map = WeightMap {
        prefixes: vec!["model.decoder.", "decoder."],
        stacks: vec![stack],
        ..WeightMap::default()
    };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}embed_tokens.weight"], "lm_head.weight");
    map.ignored.extend(["score.*", "qa_outputs.*"].map(String::from));
    Ok(map)
}

/// The token table and the layers.
pub(super) fn stack_weights() -> StackMap {
    use TensorRole::*;
    let mut stack = StackMap::default();
    stack.module(TokenEmbedding, "{prefix}embed_tokens");
    let names = [
        (MixerNorm, "self_attn_layer_norm"),
        (AttnQ, "self_attn.q_proj"),
        (AttnK, "self_attn.k_proj"),
        (AttnV, "self_attn.v_proj"),
        (AttnOut, "self_attn.out_proj"),
        (FfnNorm, "final_layer_norm"),
        (MlpUp, "fc1"),
        (MlpDown, "fc2"),
    ];
    modules(&mut stack, "{prefix}layers.{layer}.", &names);
    stack
}
