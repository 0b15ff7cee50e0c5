//! Pieces of weight maps that several architectures share.

use sli_core::{LoadOp, Mixer, ModelSpec, PositionSpec, StackMap, TensorRole, WeightMap};

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

/// A module that stores several matrices as one, row after row.
pub(crate) struct Fused<'a> {
    /// The module.
    pub(crate) name: &'a str,
    /// How often the parts follow one another: 1, or once per head or group of heads.
    pub(crate) groups: usize,
    /// Steps before the rows are taken.
    pub(crate) before: &'a [LoadOp],
    /// Further steps for queries and keys.
    pub(crate) rope: &'a [LoadOp],
}

impl<'a> Fused<'a> {
    /// A module whose parts follow one another once.
    pub(crate) fn new(name: &'a str) -> Self {
        Self { name, groups: 1, before: &[], rope: &[] }
    }

    /// Maps the parts, each with its rows per group, in the order in which they are stored.
    pub(crate) fn split(&self, map: &mut StackMap, parts: &[(TensorRole, usize)]) {
        let block = parts.iter().map(|(_, rows)| rows).sum();
        let mut start = 0;
        for (role, rows) in parts {
            let mut ops = self.before.to_vec();
            ops.push(LoadOp::TakeRows { groups: self.groups, block, start });
            if matches!(role, TensorRole::AttnQ | TensorRole::AttnK) {
                ops.extend(self.rope);
            }
            map.module_with(*role, self.name, &ops);
            start += rows;
        }
    }
}

/// The step that undoes a pairing of neighbours in rotary embeddings: nothing where there is no rotation.
pub(crate) fn neighbour_pairs(spec: &ModelSpec) -> Vec<LoadOp> {
    let blocks = spec.stacks.iter().flat_map(|stack| &stack.layers);
    let rotated = blocks.filter_map(|block| match &block.mixer {
        Mixer::Attention(attention) => match &attention.position {
            PositionSpec::Rope(rope) => Some((attention.head_dim, rope.rotary_dim)),
            PositionSpec::RotationTable { .. } => Some((attention.head_dim, attention.head_dim)),
            _ => None,
        },
        _ => None,
    });
    let step = |(head_dim, rotary_dim)| LoadOp::UnpermuteRope { head_dim, rotary_dim };
    rotated.map(step).take(1).collect()
}

/// Queries and keys under Llama's names, stored for rotations of neighbouring dimensions.
pub(crate) fn unpair_llama(map: &mut StackMap, spec: &ModelSpec) {
    let pairs = neighbour_pairs(spec);
    map.module_with(TensorRole::AttnQ, "{prefix}layers.{layer}.self_attn.q_proj", &pairs).module_with(
        TensorRole::AttnK,
        "{prefix}layers.{layer}.self_attn.k_proj",
        &pairs,
    );
}

/// Norms of the heads of queries and keys, in Qwen3 and its relatives.
pub(crate) fn head_norms(map: &mut StackMap) {
    let names = [(TensorRole::AttnQNorm, "q_norm"), (TensorRole::AttnKNorm, "k_norm")];
    modules(map, "{prefix}layers.{layer}.self_attn.", &names);
}

/// Norms on the output of each branch, in OLMo 2 and its relatives.
pub(crate) fn norm_branches(map: &mut StackMap) {
    let names = [
        (TensorRole::MixerOutNorm, "post_attention_layernorm"),
        (TensorRole::FfnOutNorm, "post_feedforward_layernorm"),
    ];
    modules(map, "{prefix}layers.{layer}.", &names);
}

/// Maps each role to the norm of its name under `base`, whose weight is stored as an offset from one.
pub(crate) fn norms_from_one(map: &mut StackMap, base: &str, names: &[(TensorRole, &str)]) {
    for (role, name) in names {
        map.tensor(role.weight(), &[&format!("{base}{name}.weight")], &[LoadOp::AddOne]);
    }
}

/// The norms of these roles, where they are already, store an offset from one.
pub(crate) fn offset_from_one(map: &mut StackMap, norms: &[TensorRole]) {
    for role in norms {
        map.then(role.weight(), LoadOp::AddOne);
    }
}

/// The head of RoBERTa and its relatives.
pub(crate) fn roberta_head(map: &mut WeightMap, tied: bool) {
    use TensorRole::{HeadDense, HeadNorm};
    modules(&mut map.head, "lm_head.", &[(HeadDense, "dense"), (HeadNorm, "layer_norm")]);
    decoder_of_masked(map, tied, "lm_head.");
}

/// The decoder of a head for masked tokens. Its bias is stored twice: beside the decoder, which is the one where
/// matrices are tied, and within it.
pub(crate) fn decoder_of_masked(map: &mut WeightMap, tied: bool, base: &str) {
    let (beside, within) = (format!("{base}bias"), format!("{base}decoder.bias"));
    let names = if tied { [&*beside, &*within] } else { [&*within, &*beside] };
    map.head.tensor(TensorRole::LmHead.bias(), &names, &[]);
    let embedding = ["{prefix}embeddings.word_embeddings.weight"];
    lm_head(map, tied, &embedding, &format!("{base}decoder.weight"));
    map.ignored.extend([beside, within]);
}

/// The position table without its first `unused` rows, which no position of a text uses.
pub(crate) fn positions_after(map: &mut StackMap, name: &str, unused: usize, count: usize) {
    let rows = LoadOp::TakeRows { groups: 1, block: unused + count, start: unused };
    map.module_with(TensorRole::PositionEmbedding, name, &[rows]);
}
