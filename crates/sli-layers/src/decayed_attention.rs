//! Linear attention with a fixed decay for each head (Qin et al. 2024, "lightning attention").

use burn::tensor::{Device, Tensor, TensorData, s};
use sli_core::{DecayedAttentionSpec, Result, TensorRole};
use sli_kernels::Activation;

use crate::backend::SliBackend;
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mlp::kernel_activation;
use crate::norm::Norm;

/// Tokens whose pairs are weighed at once; between blocks the state carries on.
const BLOCK: usize = 256;

/// The mixer with its weights.
#[derive(Clone, Debug)]
pub(crate) struct DecayedAttentionLayer<B: SliBackend> {
    spec: DecayedAttentionSpec,
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    gate: Linear<B>,
    norm: Norm<B>,
    output: Linear<B>,
}

impl<B: SliBackend> DecayedAttentionLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &DecayedAttentionSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{DecayedGate, DecayedK, DecayedNorm, DecayedOut, DecayedQ, DecayedV};
        let linear = |role| Linear::new(loader, role, false);
        Ok(Self {
            query: linear(DecayedQ)?,
            key: linear(DecayedK)?,
            value: linear(DecayedV)?,
            gate: linear(DecayedGate)?,
            norm: Norm::load(spec.norm, loader, DecayedNorm)?,
            output: linear(DecayedOut)?,
            spec: *spec,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], the state starting at zero in each sample.
    pub(crate) fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let activation = kernel_activation(self.spec.activation);
        let part = |linear: &Linear<B>| B::nonlinearity(activation, linear.forward(x.clone()));
        let read = self.read([part(&self.query), part(&self.key), part(&self.value)], context);
        let gate = self.gate.forward(x);
        self.output.forward(B::gated_nonlinearity(Activation::Sigmoid, gate, self.norm.forward(read)))
    }

    /// What each token reads of the state: queries, keys and values [tokens, width] -> [tokens, width].
    fn read(&self, parts: [Tensor<B, 2>; 3], context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let DecayedAttentionSpec { num_heads, head_dim, .. } = self.spec;
        let decays = Decays::new(&self.spec, context.longest_sample().min(BLOCK), context.device);
        let mut blocks = Vec::new();
        for sample in context.offsets.windows(2) {
            let mut state = Tensor::<B, 3>::zeros([num_heads, head_dim, head_dim], context.device);
            for first in (sample[0]..sample[1]).step_by(BLOCK) {
                let tokens = BLOCK.min(sample[1] - first);
                let [query, key, value] = parts.each_ref().map(|part| {
                    let rows = part.clone().slice(s![first..first + tokens, ..]);
                    rows.reshape([tokens, num_heads, head_dim]).swap_dims(0, 1) // [heads, tokens, head_dim]
                });
                let scores = query.clone().matmul(key.clone().swap_dims(1, 2)) * decays.pairs(tokens);
                let within = scores.matmul(value.clone());
                let before = (query * decays.since_start(tokens)).matmul(state.clone());
                let kept = state * decays.whole(tokens);
                state = kept + (key * decays.until_end(tokens)).swap_dims(1, 2).matmul(value);
                blocks.push((within + before).swap_dims(0, 1).reshape([tokens, num_heads * head_dim]));
            }
        }
        if blocks.is_empty() {
            parts.into_iter().next().expect("three parts")
        } else {
            Tensor::cat(blocks, 0)
        }
    }
}

/// How much is left of what was written, by head and distance.
struct Decays<B: SliBackend> {
    /// [heads, 1, longest + 1]: after 0, 1, 2, ... tokens.
    after: Tensor<B, 3>,
    /// [heads, longest, longest]: of key j at query i, nothing where j comes later.
    pairs: Tensor<B, 3>,
}

impl<B: SliBackend> Decays<B> {
    fn new(spec: &DecayedAttentionSpec, longest: usize, device: &Device<B>) -> Self {
        let rates: Vec<f64> = spec.rates().collect();
        let left = |rate: f64, distance: usize| (-rate * distance as f64).exp() as f32;
        let mut after = Vec::with_capacity(rates.len() * (longest + 1));
        let mut pairs = Vec::with_capacity(rates.len() * longest * longest);
        for rate in &rates {
            let of_head: Vec<f32> = (0..=longest).map(|distance| left(*rate, distance)).collect();
            for i in 0..longest {
                pairs.extend((0..longest).map(|j| if j <= i { of_head[i - j] } else { 0.0 }));
            }
            after.extend(of_head);
        }
        let tensor = |values, shape| Tensor::from_data(TensorData::new(values, shape), device);
        Self {
            after: tensor(after, [rates.len(), 1, longest + 1]),
            pairs: tensor(pairs, [rates.len(), longest, longest]),
        }
    }

    /// Of each key at each query: [heads, tokens, tokens].
    fn pairs(&self, tokens: usize) -> Tensor<B, 3> {
        self.pairs.clone().slice(s![.., 0..tokens, 0..tokens])
    }

    /// Of the state at each query: [heads, tokens, 1].
    fn since_start(&self, tokens: usize) -> Tensor<B, 3> {
        self.after.clone().slice(s![.., .., 1..tokens + 1]).swap_dims(1, 2)
    }

    /// Of each key at the last query: [heads, tokens, 1].
    fn until_end(&self, tokens: usize) -> Tensor<B, 3> {
        self.after.clone().slice(s![.., .., 0..tokens]).flip([2]).swap_dims(1, 2)
    }

    /// Of the state at the end: [heads, 1, 1].
    fn whole(&self, tokens: usize) -> Tensor<B, 3> {
        self.after.clone().slice(s![.., .., tokens..tokens + 1])
    }
}
