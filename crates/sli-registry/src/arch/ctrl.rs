//! CTRL (Keskar et al. 2019): layer norms before each branch, sinusoidal positions beside a scaled embedding, biases
//! everywhere, the head's included.

use sli_core::{
    Activation, BlockSpec, EmbeddingSpec, Family, Ffn, HeadSpec, Mask, Mixer, MlpSpec, ModelSpec, NormSpec,
    Positions, Residual, Result, StackKind, StackMap, StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{has_lm_head, model, multi_head, share_per_head};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "ctrl",
    family: Family::Gpt,
    model_types: &["ctrl"],
    architectures: &["CTRLLMHeadModel", "CTRLModel"],
    known_models: &[KnownModel::new("CTRL-1.6B", "Salesforce/ctrl", "")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // What the first release kept of the classes that all models had in common.
    config.ignore(&["n_ctx", "from_tf", "is_decoder", "output_past", "pruned_heads"]);
    config.ignore(&["summary_activation", "summary_first_dropout", "summary_proj_to_labels"]);
    config.ignore(&["summary_type", "summary_use_proj"]);
    // Of the layers; the config chooses that of the final norm only.
    const LAYER_EPS: f64 = 1e-6;
    let hidden_size = config.usize("n_embd")?;
    let num_heads = config.usize("n_head")?;
    let vocab_size = config.usize("vocab_size")?;
    let num_positions = config.usize("n_positions")?;
    let head_dim = share_per_head(config, hidden_size, num_heads)?;
    let block = BlockSpec {
        mixer: Mixer::Attention(multi_head(num_heads, head_dim, Mask::Causal, true)),
        cross_attention: None,
        ffn: Some(Ffn::Mlp(MlpSpec {
            intermediate_size: config.usize("dff")?,
            activation: Activation::Relu,
            bias: true,
        })),
        residual: Residual::PreNorm,
        norm: NormSpec::layer(LAYER_EPS),
    };
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: EmbeddingSpec {
            scale: Some((hidden_size as f64).sqrt()),
            positions: Some(Positions::Sinusoidal { first: 0, steps: hidden_size / 2 }),
            ..EmbeddingSpec::tokens(vocab_size)
        },
        layers: vec![block; config.layers("n_layer")?],
        final_norm: Some(NormSpec::layer(config.f64_or("layer_norm_epsilon", 1e-6)?)),
    };
    let head = HeadSpec { bias: true, ..HeadSpec::plain(vocab_size) };
    Ok(model(vec![stack], has_lm_head(config).then_some(head), Some(num_positions)))
}

fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    modules(&mut stack, "{prefix}", &[(TokenEmbedding, "w"), (FinalNorm, "layernorm")]);
    let names = [
        (MixerNorm, "layernorm1"),
        (AttnQ, "multi_head_attention.Wq"),
        (AttnK, "multi_head_attention.Wk"),
        (AttnV, "multi_head_attention.Wv"),
        (AttnOut, "multi_head_attention.dense"),
        (FfnNorm, "layernorm2"),
        (MlpUp, "ffn.0"),
        (MlpDown, "ffn.2"),
    ];
    modules(&mut stack, "{prefix}h.{layer}.", &names);
    let mut map =
        WeightMap { prefixes: vec!["transformer.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}w.weight"], "lm_head.weight");
    map.head.tensor(LmHead.bias(), &["lm_head.bias"], &[]);
    map.ignored.extend(["{prefix}pos_encoding", "classifier.*"].map(String::from));
    Ok(map)
}
