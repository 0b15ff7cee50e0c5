//! From the last layer to the final hidden state.

use burn::tensor::{Device, Tensor};
use sli_core::{Result, StackSpec, TensorRole};

use crate::altup::Streams;
use crate::backend::SliBackend;
use crate::carried::Carried;
use crate::norm::Norm;
use crate::tensors::LayerTensors;

/// What follows the last layer of a stack: one hidden state from several streams, and a norm, where the stack has them.
#[derive(Clone, Debug)]
pub struct StackEnd<B: SliBackend> {
    streams: Option<Streams<B>>,
    norm: Option<Norm<B>>,
}

impl<B: SliBackend> StackEnd<B> {
    /// Takes the norm and the streams' matrices.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &StackSpec, tensors: &LayerTensors, device: &Device<B>) -> Result<Self> {
        let streams = spec.embedding.streams;
        let streams = streams.map(|count| Streams::load(count, TensorRole::StreamOut, tensors, device));
        let norm = spec.final_norm.map(|norm| Norm::load(norm, tensors, TensorRole::FinalNorm, device));
        Ok(Self { streams: streams.transpose()?, norm: norm.transpose()? })
    }

    /// [tokens, hidden] -> the final hidden state.
    pub fn forward(&self, mut x: Tensor<B, 2>, mut carried: Carried<B>) -> Tensor<B, 2> {
        if let Some(streams) = &self.streams {
            x = streams.merge(x, &mut carried);
        }
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}
