//! Pieces of specs and weight maps that several architectures share.

use sli_core::{
    Activation, AttentionSpec, BlockSpec, EmbeddingSpec, Family, HeadSpec, Mask, Mixer, ModelSpec,
    PositionSpec, ProjectionBias, Result, RopeScaling, StackMap, StackSpec, TensorRole, WeightMap,
};

use crate::config::HfConfig;

/// Does the checkpoint end in a head over the vocabulary? The class that wrote it says so; without one, yes.
pub(crate) fn has_lm_head(config: &HfConfig) -> bool {
    const WITH_HEAD: [&str; 7] = [
        "ForCausalLM",
        "ForConditionalGeneration",
        "ForMaskedLM",
        "ForPreTraining",
        "LMHead",
        "LMHeadModel",
        "DoubleHeadsModel",
    ];
    let classes = config.architectures();
    classes.is_empty() || classes.iter().any(|class| WITH_HEAD.iter().any(|end| class.ends_with(end)))
}

/// The nonlinearity that `key` names.
pub(crate) fn activation(config: &HfConfig, key: &str, default: &str) -> Result<Activation> {
    let name = config.str_or(key, default)?;
    Activation::from_hf_name(name).ok_or_else(|| config.invalid(key, "the name of a known activation"))
}

/// `hidden_size` shared out over `num_heads`.
pub(crate) fn share_per_head(config: &HfConfig, hidden_size: usize, num_heads: usize) -> Result<usize> {
    if hidden_size.is_multiple_of(num_heads) {
        return Ok(hidden_size / num_heads);
    }
    Err(config.error(format!("a hidden size of {hidden_size} cannot be shared out over {num_heads} heads")))
}

/// Attention with as many key as query heads, scores divided by the root of the head's width, no positions.
pub(crate) fn multi_head(num_heads: usize, head_dim: usize, mask: Mask, bias: bool) -> AttentionSpec {
    AttentionSpec {
        num_heads,
        num_kv_heads: num_heads,
        head_dim,
        value_dim: head_dim,
        scale: (head_dim as f64).powf(-0.5),
        softcap: None,
        mask,
        position: PositionSpec::None,
        bias: ProjectionBias::all(bias),
        qk_norm: None,
    }
}

/// A table of tokens and nothing else.
pub(crate) fn token_embedding(vocab_size: usize) -> EmbeddingSpec {
    EmbeddingSpec { vocab_size, positions: None, token_types: None, norm: None }
}

/// One matrix from hidden state to logits, for classes that have one.
pub(crate) fn plain_head(config: &HfConfig, vocab_size: usize) -> Option<HeadSpec> {
    has_lm_head(config).then_some(HeadSpec { vocab_size, transform: None, bias: false, scale: None })
}

/// A model of these stacks. Its name and family are those of the architecture, which fills them in.
pub(crate) fn model(stacks: Vec<StackSpec>, head: Option<HeadSpec>, max_length: Option<usize>) -> ModelSpec {
    ModelSpec {
        architecture: String::new(),
        family: Family::Llama,
        stacks,
        head,
        max_length,
        decoder_start: None,
    }
}

/// Where positions end for rotary embeddings: what the model was made for, except that "dynamic" ones have no end.
pub(crate) fn rotary_max_length(config: &HfConfig, scaling: &RopeScaling) -> Result<Option<usize>> {
    let positions = config.optional_usize("max_position_embeddings")?;
    Ok(positions.filter(|_| !matches!(scaling, RopeScaling::Dynamic { .. })))
}

/// All layers of all stacks with their index, for stating a difference from a base.
pub(crate) fn layers(spec: &mut ModelSpec) -> impl Iterator<Item = (usize, &mut BlockSpec)> {
    spec.stacks.iter_mut().flat_map(|stack| stack.layers.iter_mut().enumerate())
}

/// All self-attentions with the index of their layer.
pub(crate) fn attentions(spec: &mut ModelSpec) -> impl Iterator<Item = (usize, &mut AttentionSpec)> {
    layers(spec).filter_map(|(index, block)| match &mut block.mixer {
        Mixer::Attention(attention) => Some((index, attention)),
        Mixer::Mamba1(_) => None,
    })
}

/// Maps each role to the module of its name under `base`.
pub(crate) fn modules(map: &mut StackMap, base: &str, names: &[(TensorRole, &str)]) {
    for (role, name) in names {
        map.module(*role, &format!("{base}{name}"));
    }
}

/// The matrix to the logits: the embedding's when `tied` (then a stored copy is ignored), else its own.
pub(crate) fn lm_head(map: &mut WeightMap, tied: bool, embedding: &[&str], own: &str) {
    let names = if tied { embedding } else { &[own] };
    map.head.tensor(TensorRole::LmHead.weight(), names, &[]);
    if tied {
        map.ignored.push(own.into());
    }
}
