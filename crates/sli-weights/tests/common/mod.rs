//! Small models and checkpoints for tests.

#![allow(dead_code)] // each test program uses some of it

use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};
use sli_core::{
    Activation, AttentionSpec, BlockSpec, EmbeddingSpec, Family, Ffn, HeadSpec, LinearInputs, Mask, Mixer,
    MlpSpec, ModelSpec, NormSpec, PositionSpec, ProjectionBias, Residual, StackKind, StackMap, StackSpec,
    TensorRole, WeightMap,
};
use sli_weights::Checkpoint;
use tempfile::{TempDir, tempdir};

/// A tensor to write: name, dtype, shape, bytes.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A tensor of f32.
pub(crate) fn f32s(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Stored { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), bytes }
}

/// A tensor of f32 whose element `i` is `start + i`.
pub(crate) fn counted(name: &str, shape: &[usize], start: f32) -> Stored {
    let values: Vec<_> = (0..shape.iter().product()).map(|i: usize| start + i as f32).collect();
    f32s(name, shape, &values)
}

/// A tensor of any dtype, from its bytes.
pub(crate) fn raw(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Stored {
    Stored { name: name.into(), dtype, shape: shape.to_vec(), bytes }
}

/// Writes a safetensors file with the crate that everyone uses.
pub(crate) fn write(path: &Path, tensors: &[Stored]) {
    let views = tensors
        .iter()
        .map(|t| (&t.name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).expect("sizes fit")));
    fs::write(path, serialize(views, None).expect("serializable")).expect("writable");
}

/// A model of one stack: vocabulary 6, width 4, two heads of 2, and layers with the given feed-forward network.
pub(crate) fn spec(layers: usize, ffn: &Ffn) -> ModelSpec {
    let norm = NormSpec::rms(1e-6);
    let attention = AttentionSpec {
        num_heads: 2,
        num_kv_heads: 2,
        head_dim: 2,
        value_dim: 2,
        scale: 1.0,
        softcap: None,
        mask: Mask::Causal,
        position: PositionSpec::None,
        bias: ProjectionBias::qkv(false),
        qk_norm: None,
        sinks: false,
        clip: None,
        output_norm: None,
        gate: None,
        temperature: None,
        key_values: sli_core::KeyValues::Projected,
    };
    let block = BlockSpec {
        mixer: Mixer::Attention(attention),
        cross_attention: None,
        ffn: Some(ffn.clone()),
        residual: Residual::PreNorm,
        norm,
    };
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size: 4,
        embedding: EmbeddingSpec::tokens(6),
        layers: vec![block; layers],
        final_norm: Some(norm),
    };
    ModelSpec {
        architecture: "test".into(),
        family: Family::Llama,
        stacks: vec![stack],
        head: Some(HeadSpec::plain(6)),
        max_length: None,
        decoder_start: None,
        linear_inputs: LinearInputs::Exact,
    }
}

/// A gated network of width 3.
pub(crate) fn mlp() -> MlpSpec {
    MlpSpec { intermediate_size: 3, activation: Activation::Silu, bias: false }
}

/// Names as in Llama, a tied head.
pub(crate) fn map() -> WeightMap {
    let mut stack = StackMap::default();
    stack
        .module(TensorRole::TokenEmbedding, "{prefix}embed")
        .module(TensorRole::MixerNorm, "{prefix}{layer}.norm1")
        .module(TensorRole::AttnQ, "{prefix}{layer}.q")
        .module(TensorRole::AttnK, "{prefix}{layer}.k")
        .module(TensorRole::AttnV, "{prefix}{layer}.v")
        .module(TensorRole::AttnOut, "{prefix}{layer}.o")
        .module(TensorRole::FfnNorm, "{prefix}{layer}.norm2")
        .module(TensorRole::MlpGate, "{prefix}{layer}.gate")
        .module(TensorRole::MlpUp, "{prefix}{layer}.up")
        .module(TensorRole::MlpDown, "{prefix}{layer}.down")
        .module(TensorRole::FinalNorm, "{prefix}norm");
    let mut head = StackMap::default();
    head.tensor(TensorRole::LmHead.weight(), &["head.weight", "{prefix}embed.weight"], &[]);
    WeightMap { prefixes: vec!["model.", ""], stacks: vec![stack], head, ..WeightMap::default() }
}

/// The tensors of [`spec`] with [`mlp`] under the names of [`map`]. Element `i` of the `n`-th is 100 n + i.
pub(crate) fn tensors(prefix: &str, layers: usize) -> Vec<Stored> {
    let mut shapes = vec![("embed".to_string(), vec![6, 4]), ("norm".to_string(), vec![4])];
    for layer in 0..layers {
        let parts: [(&str, &[usize]); 9] = [
            ("norm1", &[4]),
            ("q", &[4, 4]),
            ("k", &[4, 4]),
            ("v", &[4, 4]),
            ("o", &[4, 4]),
            ("norm2", &[4]),
            ("gate", &[3, 4]),
            ("up", &[3, 4]),
            ("down", &[4, 3]),
        ];
        shapes.extend(parts.iter().map(|(name, shape)| (format!("{layer}.{name}"), shape.to_vec())));
    }
    let counted = |(i, (name, shape)): (usize, &(String, Vec<usize>))| {
        counted(&format!("{prefix}{name}.weight"), shape, 100.0 * i as f32)
    };
    shapes.iter().enumerate().map(counted).collect()
}

/// A checkpoint of one file in a directory of its own.
pub(crate) fn checkpoint(tensors: &[Stored]) -> (TempDir, Checkpoint) {
    let directory = tempdir().expect("a directory");
    write(&directory.path().join("model.safetensors"), tensors);
    let checkpoint = Checkpoint::open(directory.path()).expect("a good file");
    (directory, checkpoint)
}
