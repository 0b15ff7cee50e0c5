//! OPT (Zhang et al. 2022): layer norms before each branch, learned positions that count from 2, biases everywhere.

use sli_core::{
    BlockSpec, EmbeddingSpec, Family, Ffn, LearnedPositions, Mask, Mixer, MlpSpec, ModelSpec, NormSpec,
    Residual, Result, StackKind, StackMap, StackSpec, TensorRole, WeightMap,
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
        KnownModel::new("OPT-1.3B", "facebook/opt-1.3b", ""),
        KnownModel::new("OPT-30B", "facebook/opt-30b", ""),
        KnownModel::new("OPT-66B", "facebook/opt-66b", ""),
        KnownModel::new("OPT-IML-30B / OPT-175B", "facebook/opt-iml-30b", ""),
    ],
    spec,
    weights,
};

/// Rows of the table of positions that no position uses.
const UNUSED_POSITIONS: usize = 2;

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // What an older export says of the head.
    config.ignore(&["output_projection"]);
    require(config, "layer_norm_elementwise_affine", true)?;
    let hidden_size = config.usize("hidden_size")?;
    if config.usize_or("word_embed_proj_dim", hidden_size)? != hidden_size {
        return Err(config.invalid("word_embed_proj_dim", "the same as hidden_size"));
    }
    // The class does not let the config choose it.
    let norm = NormSpec::layer(1e-5);
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
    let positions = Some(LearnedPositions { count: num_positions });
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: EmbeddingSpec { positions, ..EmbeddingSpec::tokens(vocab_size) },
        layers: vec![block; config.layers("num_hidden_layers")?],
        final_norm: (norm_before && !norm_removed).then_some(norm),
    };
    Ok(model(vec![stack], plain_head(config, vocab_size), Some(num_positions)))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    modules(&mut stack, "{prefix}", &[(TokenEmbedding, "embed_tokens"), (FinalNorm, "final_layer_norm")]);
    let count = spec.stacks[0].embedding.positions.map_or(0, |positions| positions.count);
    positions_after(&mut stack, "{prefix}embed_positions", UNUSED_POSITIONS, count);
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
