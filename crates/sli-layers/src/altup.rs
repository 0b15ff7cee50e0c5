//! Alternating updates: several residual streams, of which a layer works on the first.

use burn::tensor::{Tensor, s};
use sli_core::{AltUpSpec, BlockSpec, Result, TensorRole};

use crate::backend::SliBackend;
use crate::carried::{Carried, STREAMS};
use crate::layer_input::LayerInput;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;

/// Makes the streams from the embedding, or one hidden state from the streams: the first is as it is, each further one
/// goes through a matrix and gets the first one's magnitude.
#[derive(Clone, Debug)]
pub(crate) struct Streams<B: SliBackend>(Vec<Linear<B>>);

impl<B: SliBackend> Streams<B> {
    /// Takes the matrices of `count` streams, `role` of the second with index 0. Products are f32: they run once.
    pub(crate) fn load(count: usize, role: fn(u32) -> TensorRole, loader: &Loader<B>) -> Result<Self> {
        let wide = loader.wide();
        let linear = |index| Linear::new(&wide, role(index), false);
        Ok(Self((0..count.saturating_sub(1) as u32).map(linear).collect::<Result<_>>()?))
    }

    /// All streams from the embedding [tokens, hidden], which is the first.
    pub(crate) fn part(&self, x: &Tensor<B, 2>, carried: &mut Carried<B>) {
        let made = self.0.iter().map(|matrix| with_magnitude_of(x, matrix.forward(x.clone())));
        carried.put(STREAMS, Tensor::cat(made.collect(), 1));
    }

    /// The mean of the streams.
    pub(crate) fn merge(&self, x: Tensor<B, 2>, carried: &mut Carried<B>) -> Tensor<B, 2> {
        let hidden = x.dims()[1];
        let others = carried.take(STREAMS);
        let streams = self.0.iter().enumerate().filter_map(|(i, matrix)| {
            let stream = others.clone()?.slice(s![.., i * hidden..(i + 1) * hidden]);
            Some(with_magnitude_of(&x, matrix.forward(stream)))
        });
        let sum = streams.fold(x.clone(), |sum, stream| sum + stream);
        sum / (self.0.len() + 1) as f64
    }
}

/// `x`, scaled row by row to the root mean square of `model`.
fn with_magnitude_of<B: SliBackend>(model: &Tensor<B, 2>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    /// The least mean square that `x` is taken to have.
    const LEAST: f64 = 1e-5;
    let mean_square = |x: &Tensor<B, 2>| (x.clone() * x.clone()).mean_dim(1);
    let (wanted, own) = (mean_square(model).sqrt(), mean_square(&x).clamp_min(LEAST).sqrt());
    x * wanted / own
}

/// The part of a layer that makes one stream of many and many of one.
#[derive(Clone, Debug)]
pub(crate) struct AltUp<B: SliBackend> {
    streams: usize,
    router_norm: Norm<B>,
    router: Linear<B>,
    predict: Linear<B>,
    correct: Linear<B>,
    scale: Option<Tensor<B, 1>>,
    left: Linear<B>,
    right: Linear<B>,
    laurel_norm: Norm<B>,
    input: LayerInput<B>,
}

impl<B: SliBackend> AltUp<B> {
    /// Takes the routers, the coefficients and the augmented residual.
    pub(crate) fn load(spec: AltUpSpec, block: &BlockSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::*;
        let norm = |role| Norm::load(block.norm, loader, role);
        // Coefficients are f32 always, like all routing.
        let wide = loader.wide();
        let routing = |role| Linear::new(&wide, role, false);
        let linear = |role| Linear::new(loader, role, false);
        Ok(Self {
            streams: spec.streams,
            router_norm: norm(AltUpRouterNorm)?,
            router: routing(AltUpRouter)?,
            predict: routing(AltUpPredict)?,
            correct: routing(AltUpCorrect)?,
            scale: spec.scaled.then(|| loader.vector(AltUpScale)).transpose()?,
            left: linear(LaurelLeft)?,
            right: linear(LaurelRight)?,
            laurel_norm: norm(LaurelNorm)?,
            input: LayerInput::load(spec.input, block.norm, loader)?,
        })
    }

    /// The router's view of a stream: [tokens, streams], between -1 and 1.
    fn modalities(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let hidden = x.dims()[1] as f64;
        self.router.forward(self.router_norm.forward(x) / hidden).tanh()
    }

    /// The streams as a layer is to see them, the first of them first, from the first stream and what is carried.
    pub(crate) fn predicted(&self, x: Tensor<B, 2>, carried: &mut Carried<B>) -> Vec<Tensor<B, 2>> {
        let (hidden, others) = (x.dims()[1], carried.get(STREAMS));
        let coefficients = self.predict.forward(self.modalities(x.clone())); // [tokens, streams * streams]
        let mut streams = vec![x];
        streams.extend(
            (0..self.streams - 1).map(|i| others.clone().slice(s![.., i * hidden..(i + 1) * hidden])),
        );
        let predicted = (0..self.streams).map(|i| {
            let weighted = streams.iter().enumerate().map(|(j, stream)| {
                let at = i * self.streams + j;
                stream.clone() * coefficients.clone().slice(s![.., at..at + 1])
            });
            weighted.fold(streams[i].clone(), |sum, part| sum + part)
        });
        predicted.collect()
    }

    /// What is added to the mixer's branch: n + norm(right(left(n))).
    pub(crate) fn laurel(&self, n: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = self.laurel_norm.forward(self.right.forward(self.left.forward(n.clone())));
        B::join(n, y)
    }

    /// All streams after the layer made `y` of the first: the first is returned, the others are carried on.
    pub(crate) fn corrected(
        &self,
        predicted: Vec<Tensor<B, 2>>,
        y: Tensor<B, 2>,
        carried: &mut Carried<B>,
    ) -> Tensor<B, 2> {
        let coefficients = self.correct.forward(self.modalities(y.clone())) + 1.0; // [tokens, streams]
        let change = y - predicted[0].clone();
        let mut corrected = predicted
            .into_iter()
            .enumerate()
            .map(|(i, stream)| stream + change.clone() * coefficients.clone().slice(s![.., i..i + 1]));
        let first = corrected.next().unwrap_or_else(|| change.clone());
        let scaled = match &self.scale {
            Some(scale) => first.clone() * scale.clone().unsqueeze(),
            None => first.clone(),
        };
        let input = self.input.forward(scaled, carried);
        carried.put(STREAMS, Tensor::cat(corrected.map(|stream| stream + input.clone()).collect(), 1));
        first
    }
}
