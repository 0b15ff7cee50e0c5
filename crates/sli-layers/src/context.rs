//! What a block needs to know about the chunk that goes through it.

use burn::tensor::{Device, Tensor};
use sli_core::PositionSpec;

use crate::backend::SliBackend;
use crate::rope::{RopeCache, RopeTable};

/// A chunk: whole samples laid end to end.
#[derive(Clone, Copy, Debug)]
pub struct ChunkContext<'a, B: SliBackend> {
    /// Sample s owns the tokens `offsets[s]..offsets[s + 1]`.
    pub offsets: &'a [usize],
    /// The token ids.
    pub tokens: &'a [u32],
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

    /// The tokens of each sample.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &[u32]> {
        self.offsets.windows(2).map(|pair| &self.tokens[pair[0]..pair[1]])
    }

    /// The angles of each token, where queries and keys are rotated as a whole.
    pub(crate) fn rotation(&self, position: &PositionSpec) -> Option<RopeTable> {
        match position {
            PositionSpec::Rope(rope) => Some(self.rope.for_tokens(rope, self.offsets, self.positions)),
            _ => None,
        }
    }

    /// `x` with its heads turned by these angles, if there are any.
    pub(crate) fn rotated(x: Tensor<B, 2>, heads: usize, table: Option<&RopeTable>) -> Tensor<B, 2> {
        match table {
            Some(table) => B::rotate(x, heads, table),
            None => x,
        }
    }

    /// A value for each token, made from its position: [tokens, 1].
    pub(crate) fn per_position(&self, value: impl Fn(usize) -> f32) -> Tensor<B, 2> {
        let values: Vec<f32> = match self.positions {
            Some(positions) => positions.iter().map(|position| value(*position as usize)).collect(),
            None => self.offsets.windows(2).flat_map(|s| (0..s[1] - s[0]).map(&value)).collect(),
        };
        B::from_host(values, 1, self.device)
    }
}
