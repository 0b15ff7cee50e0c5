//! What a block needs to know about the chunk that goes through it.

use burn::tensor::{Device, Tensor};

use crate::backend::SliBackend;
use crate::rope::RopeCache;

/// A chunk: whole samples laid end to end.
#[derive(Clone, Copy, Debug)]
pub struct ChunkContext<'a, B: SliBackend> {
    /// Sample s owns the tokens `offsets[s]..offsets[s + 1]`.
    pub offsets: &'a [usize],
    /// The position of each token, where they are not simply 0, 1, 2, ... within each sample.
    pub positions: Option<&'a [u32]>,
    /// Rotary tables, shared by all layers.
    pub rope: &'a RopeCache,
    /// What the cross attention looks at.
    pub encoder: Option<&'a EncoderOutput<B>>,
    /// Where the tensors live.
    pub device: &'a Device<B>,
}

/// The encoder's output for the samples of a chunk.
#[derive(Clone, Debug)]
pub struct EncoderOutput<B: SliBackend> {
    /// [encoder tokens, width].
    pub hidden: Tensor<B, 2>,
    /// Where each sample starts in it.
    pub offsets: Vec<usize>,
}

impl<B: SliBackend> ChunkContext<'_, B> {
    /// Tokens of the longest sample.
    pub fn longest_sample(&self) -> usize {
        self.offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}
