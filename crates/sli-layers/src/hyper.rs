//! Hyper-connections: several residual streams that branches read as one and write back to (Zhu et al. 2024, Xie et al.
//! 2026).

use burn::tensor::{Tensor, activation, s};
use sli_core::{HyperSpec, Result, TensorRole};

use crate::backend::SliBackend;
use crate::carried::{Carried, STREAMS};
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;

/// Under which the coefficients of a branch are kept while its experts run.
const WAITING: &str = "shares of streams";

/// The connections of a layer's branches.
#[derive(Clone, Debug)]
pub(crate) struct HyperConnections<B: SliBackend> {
    pub(crate) mixer: Connection<B>,
    pub(crate) ffn: Connection<B>,
}

/// From all streams to the coefficients of a branch.
#[derive(Clone, Debug)]
pub(crate) struct Connection<B: SliBackend> {
    spec: HyperSpec,
    coefficients: Coefficients<B>,
}

/// The streams while a branch computes: all but what it will add.
pub(crate) struct Opened<B: SliBackend> {
    /// [tokens, hidden] each.
    mixed: Vec<Tensor<B, 2>>,
    /// How much of the branch each gets, [tokens, streams].
    shares: Tensor<B, 2>,
}

/// A projection of all streams, normed together; pieces of it are scaled by a number each.
#[derive(Clone, Debug)]
struct Coefficients<B: SliBackend> {
    norm: Norm<B>,
    projection: Linear<B>,
    base: Tensor<B, 1>,
    scales: Vec<f32>,
}

impl<B: SliBackend> HyperConnections<B> {
    /// Takes the tensors of both branches.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(spec: &HyperSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{HyperFfn, HyperFfnScale, HyperMixer, HyperMixerScale};
        let connection = |roles| {
            let coefficients = Coefficients::load(spec, roles, loader)?;
            Ok::<_, sli_core::SliError>(Connection { spec: *spec, coefficients })
        };
        Ok(Self {
            mixer: connection([HyperMixer, HyperMixerScale])?,
            ffn: connection([HyperFfn, HyperFfnScale])?,
        })
    }
}

/// All streams, [tokens, streams * hidden], of which the first is the hidden state.
pub(crate) fn all_streams<B: SliBackend>(x: Tensor<B, 2>, carried: &mut Carried<B>) -> Tensor<B, 2> {
    match carried.take(STREAMS) {
        Some(others) => Tensor::cat(vec![x, others], 1),
        None => x,
    }
}

/// Copies of the embedding for all streams but the first.
pub(crate) fn copy_streams<B: SliBackend>(x: &Tensor<B, 2>, streams: usize, carried: &mut Carried<B>) {
    if streams > 1 {
        carried.put(STREAMS, x.clone().repeat_dim(1, streams - 1));
    }
}

impl<B: SliBackend> Connection<B> {
    /// What goes into the branch, [tokens, hidden], and the rest.
    pub(crate) fn open(&self, streams: Tensor<B, 2>) -> (Tensor<B, 2>, Opened<B>) {
        let HyperSpec { streams: count, iterations, eps, .. } = self.spec;
        let tokens = streams.dims()[0];
        let values = self.coefficients.forward(streams.clone(), &[count, count, count * count]);
        let shares = activation::sigmoid(values[1].clone()) * 2.0;
        let mut mixture = activation::softmax(values[2].clone().reshape([tokens, count, count]), 2) + eps;
        mixture = divided(mixture, 1, eps);
        for _ in 1..iterations {
            mixture = divided(divided(mixture, 2, eps), 1, eps);
        }
        let parts = split(&streams, count);
        let input = weighed_sum(&parts, &(activation::sigmoid(values[0].clone()) + eps));
        let mixed = (0..count).map(|k| {
            let column = mixture.clone().slice(s![.., .., k..k + 1]).reshape([tokens, count]);
            weighed_sum(&parts, &column)
        });
        (input, Opened { mixed: mixed.collect(), shares })
    }
}

impl<B: SliBackend> Opened<B> {
    /// All streams after the branch gave `y`: the first is returned, the others are carried on.
    pub(crate) fn close(self, y: Tensor<B, 2>, carried: &mut Carried<B>) -> Tensor<B, 2> {
        let mut streams = self
            .mixed
            .into_iter()
            .enumerate()
            .map(|(k, stream)| stream + y.clone() * self.shares.clone().slice(s![.., k..k + 1]));
        let first = streams.next().expect("there is a first stream");
        let others: Vec<_> = streams.collect();
        if !others.is_empty() {
            carried.put(STREAMS, Tensor::cat(others, 1));
        }
        first
    }

    /// Keeps what the branch is to be added to while its experts run; the first stream is returned.
    pub(crate) fn wait(self, carried: &mut Carried<B>) -> Tensor<B, 2> {
        carried.put(WAITING, self.shares);
        let mut streams = self.mixed.into_iter();
        let first = streams.next().expect("there is a first stream");
        let others: Vec<_> = streams.collect();
        if !others.is_empty() {
            carried.put(STREAMS, Tensor::cat(others, 1));
        }
        first
    }

    /// What was kept.
    pub(crate) fn waited(first: Tensor<B, 2>, carried: &mut Carried<B>) -> Self {
        let shares = carried.take(WAITING).expect("kept before the experts ran");
        let count = shares.dims()[1];
        let streams = all_streams(first, carried);
        Self { mixed: split(&streams, count), shares }
    }
}

/// Adds up the streams after the last layer.
#[derive(Clone, Debug)]
pub(crate) struct HyperEnd<B: SliBackend> {
    spec: HyperSpec,
    coefficients: Coefficients<B>,
}

impl<B: SliBackend> HyperEnd<B> {
    /// Takes the tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(spec: &HyperSpec, loader: &Loader<B>) -> Result<Self> {
        let roles = [TensorRole::HyperOut, TensorRole::HyperOutScale];
        Ok(Self { spec: *spec, coefficients: Coefficients::load(spec, roles, loader)? })
    }

    /// One hidden state, [tokens, hidden], from the streams.
    pub(crate) fn merge(&self, x: Tensor<B, 2>, carried: &mut Carried<B>) -> Tensor<B, 2> {
        let (streams, count) = (all_streams(x, carried), self.spec.streams);
        let values = self.coefficients.forward(streams.clone(), &[count]);
        weighed_sum(&split(&streams, count), &(activation::sigmoid(values[0].clone()) + self.spec.eps))
    }
}

impl<B: SliBackend> Coefficients<B> {
    fn load(spec: &HyperSpec, [role, scale]: [TensorRole; 2], loader: &Loader<B>) -> Result<Self> {
        Ok(Self {
            norm: Norm::new(spec.norm, None, None, loader.device),
            // Coefficients are f32 always, like all routing.
            projection: Linear::new(&loader.wide(), role, false)?,
            base: loader.bias(role)?,
            scales: loader.values(scale)?,
        })
    }

    /// Pieces of these widths, [tokens, width] each.
    fn forward(&self, streams: Tensor<B, 2>, widths: &[usize]) -> Vec<Tensor<B, 2>> {
        let values = self.projection.forward(self.norm.forward(streams));
        let mut start = 0;
        let piece = |(width, scale): (&usize, &f32)| {
            let range = start..start + width;
            start += width;
            let base = self.base.clone().slice(s![range.clone()]);
            values.clone().slice(s![.., range]) * *scale + base.unsqueeze()
        };
        widths.iter().zip(&self.scales).map(piece).collect()
    }
}

/// Each of `count` streams, [tokens, hidden].
fn split<B: SliBackend>(streams: &Tensor<B, 2>, count: usize) -> Vec<Tensor<B, 2>> {
    let hidden = streams.dims()[1] / count;
    (0..count).map(|i| streams.clone().slice(s![.., i * hidden..(i + 1) * hidden])).collect()
}

/// The sum of the parts, each times its column of `weights` [tokens, parts].
fn weighed_sum<B: SliBackend>(parts: &[Tensor<B, 2>], weights: &Tensor<B, 2>) -> Tensor<B, 2> {
    let weighed =
        parts.iter().enumerate().map(|(i, part)| part.clone() * weights.clone().slice(s![.., i..i + 1]));
    weighed.reduce(|sum, part| sum + part).expect("there is a first stream")
}

/// Divided by the sums over `dim`, plus eps.
fn divided<B: SliBackend>(x: Tensor<B, 3>, dim: usize, eps: f64) -> Tensor<B, 3> {
    let sums = x.clone().sum_dim(dim) + eps;
    x / sums
}
