//! Summaries of runs of tokens, and which of them a query sees (DeepSeek-AI 2026).

use burn::tensor::{Tensor, activation, s};
use sli_core::{NormSpec, Result, RopeSpec, Summaries, SummaryIndexer, TensorRole};

use crate::backend::SliBackend;
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;
use crate::rope::RopeTable;

/// Scores that are held at once.
const SCORES: usize = 1 << 22;

/// Sums up runs of tokens, with its weights.
#[derive(Clone, Debug)]
pub(crate) struct Summarizer<B: SliBackend> {
    spec: Summaries,
    width: usize,
    value: Linear<B>,
    weight: Linear<B>,
    /// [1, rate, channels].
    places: Tensor<B, 3>,
    norm: Norm<B>,
    rope: RopeSpec,
}

impl<B: SliBackend> Summarizer<B> {
    /// Takes the tensors, under the roles of values, weights, places and norm.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(
        (spec, width): (&Summaries, usize),
        (norm, rope): (NormSpec, &RopeSpec),
        [value, weight, places, norm_role]: [TensorRole; 4],
        loader: &Loader<B>,
    ) -> Result<Self> {
        let linear = |role| Linear::new(loader, role, false);
        Ok(Self {
            value: linear(value)?,
            weight: linear(weight)?,
            places: loader.table(places)?.swap_dims(0, 1).unsqueeze_dim(0),
            norm: Norm::load(norm, loader, norm_role)?,
            rope: rope.clone(),
            spec: *spec,
            width,
        })
    }

    /// Of each sample the summaries of its whole runs, [runs, width]; `None` where it has no whole run.
    pub(crate) fn forward(
        &self,
        x: &Tensor<B, 2>,
        context: &ChunkContext<'_, B>,
    ) -> Vec<Option<Tensor<B, 2>>> {
        let (values, weights) = (self.value.forward(x.clone()), self.weight.forward(x.clone()));
        let rate = self.spec.rate();
        let of_sample = |sample: &[usize]| {
            let runs = (sample[1] - sample[0]) / rate;
            let cut = |x: &Tensor<B, 2>| {
                let channels = x.dims()[1];
                let rows = x.clone().slice(s![sample[0]..sample[0] + runs * rate, ..]);
                rows.reshape([runs, rate, channels])
            };
            (runs > 0).then(|| {
                let summed = self.summed(cut(&values), cut(&weights) + self.places.clone());
                let first: Vec<u32> = (0..runs).map(|run| (run * rate) as u32).collect();
                let angles = context.rope.for_tokens(&self.rope, &[0, runs], Some(&first));
                B::rotate(self.norm.forward(summed), 1, &angles)
            })
        };
        context.offsets.windows(2).map(of_sample).collect()
    }

    /// [runs, rate, channels] each -> [runs, width].
    fn summed(&self, values: Tensor<B, 3>, weights: Tensor<B, 3>) -> Tensor<B, 2> {
        let runs = values.dims()[0];
        let (values, weights) = match self.spec {
            Summaries::Apart { .. } => (values, weights),
            // Before the first run there is nothing, which weighs nothing.
            Summaries::Overlapping { .. } => {
                (self.with_previous(values, 0.0), self.with_previous(weights, f64::NEG_INFINITY))
            }
        };
        (values * activation::softmax(weights, 1)).sum_dim(1).reshape([runs, self.width])
    }

    /// The first half of the channels of the run before, and then the second half of the run itself:
    /// [runs, rate, 2 width] -> [runs, 2 rate, width].
    fn with_previous(&self, x: Tensor<B, 3>, nothing: f64) -> Tensor<B, 3> {
        let [runs, rate, _] = x.dims();
        let own = x.clone().slice(s![.., .., self.width..]);
        let before = Tensor::full([1, rate, self.width], nothing, &x.device());
        let previous = match runs {
            1 => before,
            _ => Tensor::cat(vec![before, x.slice(s![0..runs - 1, .., 0..self.width])], 0),
        };
        Tensor::cat(vec![previous, own], 1)
    }
}

/// Chooses the summaries that a query sees, by summaries of its own.
#[derive(Clone, Debug)]
pub(crate) struct SummaryChooser<B: SliBackend> {
    spec: SummaryIndexer,
    rate: usize,
    query: Linear<B>,
    weights: Linear<B>,
    keys: Summarizer<B>,
}

impl<B: SliBackend> SummaryChooser<B> {
    /// Takes the tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(
        spec: &SummaryIndexer,
        summaries: &Summaries,
        placed: (NormSpec, &RopeSpec),
        loader: &Loader<B>,
    ) -> Result<Self> {
        use TensorRole::{
            IndexQuery, IndexSummaryNorm, IndexSummaryPlaces, IndexSummaryValue, IndexSummaryWeight,
            IndexWeights,
        };
        let roles = [IndexSummaryValue, IndexSummaryWeight, IndexSummaryPlaces, IndexSummaryNorm];
        let linear = |role| Linear::new(loader, role, false);
        Ok(Self {
            query: linear(IndexQuery)?,
            weights: linear(IndexWeights)?,
            keys: Summarizer::new((summaries, spec.head_dim), placed, roles, loader)?,
            spec: *spec,
            rate: summaries.rate(),
        })
    }

    /// Of each query the summaries it sees, all of those that end at or before it where they are few enough.
    pub(crate) fn choose(
        &self,
        query_latent: Tensor<B, 2>,
        x: &Tensor<B, 2>,
        angles: &RopeTable,
        context: &ChunkContext<'_, B>,
    ) -> Vec<Option<Vec<u32>>> {
        let SummaryIndexer { num_heads, head_dim, top_k } = self.spec;
        let mut chosen = vec![None; x.dims()[0]];
        let most = context.longest_sample() / self.rate;
        if most <= top_k {
            return chosen;
        }
        // Scaling all scores alike changes no choice.
        let query = B::rotate(self.query.forward(query_latent), num_heads, angles);
        let weights = self.weights.forward(x.clone());
        let block = (SCORES / (num_heads * most)).max(1);
        for (sample, keys) in context.offsets.windows(2).zip(self.keys.forward(x, context)) {
            let Some(keys) = keys.filter(|keys| keys.dims()[0] > top_k) else { continue };
            let runs = keys.dims()[0];
            for first in (sample[0]..sample[1]).step_by(block) {
                let tokens = block.min(sample[1] - first);
                let rows = query.clone().slice(s![first..first + tokens, ..]);
                let scores =
                    rows.reshape([tokens * num_heads, head_dim]).matmul(keys.clone().swap_dims(0, 1));
                let scores = activation::relu(scores).reshape([tokens, num_heads, runs]);
                let weights = weights.clone().slice(s![first..first + tokens, ..]);
                let scores = (scores * weights.reshape([tokens, num_heads, 1])).sum_dim(1);
                let scores = B::to_host(scores.reshape([tokens, runs]));
                for (token, scores) in (first..).zip(scores.chunks_exact(runs)) {
                    let ended = (token - sample[0] + 1) / self.rate;
                    chosen[token] = (ended > top_k).then(|| best(&scores[..ended], top_k));
                }
            }
        }
        chosen
    }
}

/// The indices of the `count` best scores; of equal ones those that come first.
fn best(scores: &[f32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    let by_score = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    order.select_nth_unstable_by(count - 1, by_score);
    order.truncate(count);
    order
}
