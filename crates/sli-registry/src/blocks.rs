//! Pieces of specs that several architectures share.

use sli_core::{
    Activation, AttentionSpec, BlockSpec, EmbeddingSpec, Family, Ffn, HeadSpec, LinearInputs, Mask, Mixer,
    ModelSpec, NormSpec, PositionSpec, Positions, ProjectionBias, QkNorm, Residual, Result, RopeScaling,
    StackSpec,
};

use crate::config::HfConfig;
use crate::rope::rope;

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
        sinks: false,
        clip: None,
        output_norm: None,
        gate: None,
        temperature: None,
        key_values: sli_core::KeyValues::Projected,
    }
}

/// A table of tokens and nothing else.
pub(crate) fn token_embedding(vocab_size: usize) -> EmbeddingSpec {
    EmbeddingSpec::tokens(vocab_size)
}

/// One matrix from hidden state to logits, for classes that have one.
pub(crate) fn plain_head(config: &HfConfig, vocab_size: usize) -> Option<HeadSpec> {
    has_lm_head(config).then(|| HeadSpec::plain(vocab_size))
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
        linear_inputs: LinearInputs::Exact,
    }
}

/// Where positions end for rotary embeddings: what the model was made for, except that "dynamic" ones have no end.
pub(crate) fn rotary_max_length(config: &HfConfig, scaling: &RopeScaling) -> Result<Option<usize>> {
    let positions = config.optional_usize("max_position_embeddings")?;
    let ends = !matches!(scaling, RopeScaling::Dynamic { .. } | RopeScaling::DynamicSteps { .. });
    Ok(positions.filter(|_| ends))
}

/// All layers of all stacks with their index, for stating a difference from a base.
pub(crate) fn layers(spec: &mut ModelSpec) -> impl Iterator<Item = (usize, &mut BlockSpec)> {
    spec.stacks.iter_mut().flat_map(|stack| stack.layers.iter_mut().enumerate())
}

/// All self-attentions with the index of their layer.
pub(crate) fn attentions(spec: &mut ModelSpec) -> impl Iterator<Item = (usize, &mut AttentionSpec)> {
    layers(spec).filter_map(|(index, block)| match &mut block.mixer {
        Mixer::Attention(attention) => Some((index, attention)),
        _ => None,
    })
}

/// The window that `sliding_window` names, on every layer.
pub(crate) fn slide(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    if let Some(window) = config.optional_usize("sliding_window")? {
        attentions(spec).for_each(|(_, attention)| attention.mask = Mask::Sliding { window });
    }
    Ok(())
}

/// Another norm before every branch and at the end.
pub(crate) fn set_norm(spec: &mut ModelSpec, norm: NormSpec) {
    for stack in &mut spec.stacks {
        stack.final_norm = Some(norm);
        stack.layers.iter_mut().for_each(|block| block.norm = norm);
    }
}

/// Another way of joining branches, in every layer.
pub(crate) fn set_residual(spec: &mut ModelSpec, residual: Residual) {
    layers(spec).for_each(|(_, block)| block.residual = residual);
}

/// Token rows multiplied by the root of their width.
pub(crate) fn scale_embedding_by_root(spec: &mut ModelSpec) {
    for stack in &mut spec.stacks {
        stack.embedding.scale = Some((stack.hidden_size as f64).sqrt());
    }
}

/// Plain MLPs in place of gated ones, with the same sizes.
pub(crate) fn remove_gates(spec: &mut ModelSpec) {
    for (_, block) in layers(spec) {
        if let Some(Ffn::GatedMlp(mlp)) = block.ffn {
            block.ffn = Some(Ffn::Mlp(mlp));
        }
    }
}

/// Biases of all MLPs.
pub(crate) fn set_mlp_bias(spec: &mut ModelSpec, bias: bool) {
    for (_, block) in layers(spec) {
        if let Some(Ffn::Mlp(mlp) | Ffn::GatedMlp(mlp)) = &mut block.ffn {
            mlp.bias = bias;
        }
    }
}

/// Refuses configs in which a switch has another value than the one that is supported.
pub(crate) fn require(config: &HfConfig, key: &str, value: bool) -> Result<()> {
    if config.bool_or(key, value)? == value {
        return Ok(());
    }
    Err(config.invalid(key, &format!("{value}: the other way is not supported")))
}

/// Norms of each head of queries and keys, like those of the layer's branches.
pub(crate) fn norm_heads(spec: &mut ModelSpec) {
    for (_, block) in layers(spec) {
        let norm = block.norm;
        if let Mixer::Attention(attention) = &mut block.mixer {
            attention.qk_norm = Some(QkNorm::PerHead(norm));
        }
    }
}

/// Norms before each branch and at the end, in place of after each branch and after the embedding.
pub(crate) fn norm_before(spec: &mut ModelSpec) {
    for stack in &mut spec.stacks {
        stack.final_norm = stack.embedding.norm.take();
        stack.layers.iter_mut().for_each(|block| block.residual = Residual::PreNorm);
    }
}

/// Rotations in place of learned positions.
pub(crate) fn rotate(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let head_dims: Vec<_> = attentions(spec).map(|(_, attention)| attention.head_dim).collect();
    let Some(head_dim) = head_dims.first().copied() else { return Ok(()) };
    if config.usize_or("head_dim", head_dim)? != head_dim {
        return Err(config.invalid("head_dim", "the hidden size shared out over the heads"));
    }
    let rope = rope(config, head_dim)?;
    spec.max_length = rotary_max_length(config, &rope.scaling)?;
    for stack in &mut spec.stacks {
        stack.embedding.positions = None;
    }
    attentions(spec).for_each(|(_, attention)| attention.position = PositionSpec::Rope(rope.clone()));
    Ok(())
}

/// Positions that count from after the padding token's id, as in fairseq: the rows of the table before that, and the
/// rows that are left.
pub(crate) fn positions_after_padding(config: &HfConfig) -> Result<(usize, usize)> {
    const KEY: &str = "max_position_embeddings";
    const PADDING: u32 = 1;
    let unused = config.token_id("pad_token_id")?.unwrap_or(PADDING) as usize + 1;
    let count = config.usize(KEY)?.checked_sub(unused).filter(|count| *count > 0);
    let count = count.ok_or_else(|| config.invalid(KEY, "more rows than the padding token's id needs"))?;
    Ok((unused, count))
}

/// A BERT with such positions, and the activation that RoBERTa's head always has.
pub(crate) fn like_roberta(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let (_, count) = positions_after_padding(config)?;
    spec.stacks[0].embedding.positions = Some(Positions::Learned { count });
    spec.max_length = Some(count);
    if let Some(transform) = spec.head.as_mut().and_then(|head| head.transform.as_mut()) {
        transform.activation = Activation::Gelu;
    }
    Ok(())
}
