//! From the last layer to the final hidden state.

use burn::tensor::Tensor;
use sli_core::{Result, SliError, StackSpec, TensorRole};

use crate::altup::Streams;
use crate::backend::SliBackend;
use crate::carried::Carried;
use crate::hyper::HyperEnd;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;

/// What follows the last layer of a stack: one hidden state from several streams, a norm, and a projection to the width
/// of token rows, where the stack has them.
#[derive(Clone, Debug)]
pub struct StackEnd<B: SliBackend> {
    streams: Option<Merger<B>>,
    norm: Option<Norm<B>>,
    projection: Option<Linear<B>>,
}

/// How several streams become one hidden state.
#[derive(Clone, Debug)]
enum Merger<B: SliBackend> {
    Mean(Streams<B>),
    Weighed(HyperEnd<B>),
}

impl<B: SliBackend> StackEnd<B> {
    /// Takes the norm and the streams' matrices.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &StackSpec, loader: &Loader<B>) -> Result<Self> {
        let streams = spec.embedding.streams;
        let streams = streams.map(|streams| {
            Ok::<_, SliError>(match streams {
                sli_core::Streams::Projected { count } => {
                    Merger::Mean(Streams::load(count, TensorRole::StreamOut, loader)?)
                }
                sli_core::Streams::Copied(hyper) => Merger::Weighed(HyperEnd::load(&hyper, loader)?),
            })
        });
        let norm = spec.final_norm.map(|norm| Norm::load(norm, loader, TensorRole::FinalNorm));
        let project = |_| Linear::new(loader, TensorRole::FinalProjection, false);
        Ok(Self {
            streams: streams.transpose()?,
            norm: norm.transpose()?,
            projection: spec.embedding.final_projection().map(project).transpose()?,
        })
    }

    /// [tokens, hidden] -> the final hidden state, [tokens, final width].
    pub fn forward(&self, mut x: Tensor<B, 2>, mut carried: Carried<B>) -> Tensor<B, 2> {
        x = match &self.streams {
            Some(Merger::Mean(streams)) => streams.merge(x, &mut carried),
            Some(Merger::Weighed(end)) => end.merge(x, &mut carried),
            None => x,
        };
        if let Some(norm) = &self.norm {
            x = norm.forward(x);
        }
        match &self.projection {
            Some(projection) => projection.forward(x),
            None => x,
        }
    }
}
