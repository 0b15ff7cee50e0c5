//! Softmax attention over a window of tokens and summaries of those before (DeepSeek-AI 2026).

use burn::tensor::{Tensor, TensorData, s};
use sli_core::{CompressedAttentionSpec, NormKind, NormSpec, Result, TensorRole};

use crate::backend::SliBackend;
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;
use crate::summaries::{Summarizer, SummaryChooser};

/// Scores that are held at once, at most.
const SCORES: usize = 1 << 23;

/// Queries whose scores are held at once, at most: they share most of their keys.
const BLOCK: usize = 64;

/// The mixer with its weights.
#[derive(Clone, Debug)]
pub(crate) struct CompressedAttentionLayer<B: SliBackend> {
    spec: CompressedAttentionSpec,
    query_down: Linear<B>,
    query_norm: Norm<B>,
    query: Linear<B>,
    head_norm: Norm<B>,
    key: Linear<B>,
    key_norm: Norm<B>,
    /// [1, heads, 1].
    sinks: Tensor<B, 3>,
    summarizer: Option<Summarizer<B>>,
    chooser: Option<SummaryChooser<B>>,
    /// Of each group of heads, side by side.
    by_group: Vec<Linear<B>>,
    output: Linear<B>,
}

impl<B: SliBackend> CompressedAttentionLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &CompressedAttentionSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::*;
        let linear = |role| Linear::new(loader, role, false);
        let norm = |role| Norm::load(spec.norm, loader, role);
        let placed = (spec.norm, &spec.rope);
        let summarizer = |summaries| {
            let roles = [SummaryValue, SummaryWeight, SummaryPlaces, SummaryNorm];
            Summarizer::new((summaries, spec.head_dim), placed, roles, loader)
        };
        let chooser = spec.summaries.as_ref().and_then(|summaries| {
            let indexer = summaries.indexer()?;
            Some(SummaryChooser::new(indexer, summaries, placed, loader))
        });
        let by_group = (0..spec.output_groups as u32).map(|group| linear(GroupOut(group)));
        let sinks = loader.vector(AttnSinks)?;
        Ok(Self {
            query_down: linear(MlaQueryDown)?,
            query_norm: norm(MlaQueryNorm)?,
            query: linear(MlaQuery)?,
            head_norm: Norm::new(unweighted(spec.norm), None, None, loader.device).over(spec.head_dim),
            key: linear(AttnK)?,
            key_norm: norm(AttnKNorm)?,
            sinks: sinks.reshape([1, spec.num_heads, 1]),
            summarizer: spec.summaries.as_ref().map(summarizer).transpose()?,
            chooser: chooser.transpose()?,
            by_group: by_group.collect::<Result<_>>()?,
            output: linear(AttnOut)?,
            spec: spec.clone(),
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], each sample looking at itself.
    pub(crate) fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let (spec, tokens) = (&self.spec, x.dims()[0]);
        let angles = context.rope.for_tokens(&spec.rope, context.offsets, context.positions);
        let latent = self.query_norm.forward(self.query_down.forward(x.clone()));
        let query = self.head_norm.forward(self.query.forward(latent.clone()));
        let query = B::rotate(query, spec.num_heads, &angles);
        let key = B::rotate(self.key_norm.forward(self.key.forward(x.clone())), 1, &angles);
        let samples = context.offsets.len().saturating_sub(1);
        let summaries = match &self.summarizer {
            Some(summarizer) => summarizer.forward(&x, context),
            None => vec![None; samples],
        };
        let chosen = match &self.chooser {
            Some(chooser) => chooser.choose(latent, &x, &angles, context),
            None => vec![None; tokens],
        };
        let mut blocks = Vec::new();
        for (sample, summaries) in context.offsets.windows(2).zip(summaries) {
            self.attend(sample, &query, &key, summaries.as_ref(), &chosen, &mut blocks);
        }
        let mixed = if blocks.is_empty() { query } else { Tensor::cat(blocks, 0) };
        let turned_back = B::rotate(mixed, spec.num_heads, &angles.reversed());
        self.output.forward(self.grouped(self.in_stored_order(turned_back)))
    }

    /// What the queries of a sample see, block by block, [tokens, heads * head_dim].
    fn attend(
        &self,
        sample: &[usize],
        query: &Tensor<B, 2>,
        key: &Tensor<B, 2>,
        summaries: Option<&Tensor<B, 2>>,
        chosen: &[Option<Vec<u32>>],
        blocks: &mut Vec<Tensor<B, 2>>,
    ) {
        let CompressedAttentionSpec { num_heads, head_dim, window, .. } = self.spec;
        let rate = self.spec.summaries.map_or(1, |summaries| summaries.rate());
        let runs = summaries.map_or(0, |summaries| summaries.dims()[0]);
        let block = (SCORES / (num_heads * (window + BLOCK + runs))).clamp(1, BLOCK);
        for first in (sample[0]..sample[1]).step_by(block) {
            let last = sample[1].min(first + block);
            let (queries, first_key) = (last - first, sample[0].max((first + 1).saturating_sub(window)));
            let near = key.clone().slice(s![first_key..last, ..]);
            let ended = |token: usize| ((token - sample[0] + 1) / rate).min(runs);
            let far = ended(last - 1);
            let keys = match summaries.filter(|_| far > 0) {
                Some(summaries) => Tensor::cat(vec![near, summaries.clone().slice(s![0..far, ..])], 0),
                None => near,
            };
            let count = keys.dims()[0];
            let mut hidden = vec![f32::NEG_INFINITY; queries * count];
            for (token, hidden) in (first..last).zip(hidden.chunks_exact_mut(count)) {
                let (window_keys, summaries) = hidden.split_at_mut(last - first_key);
                let start = first_key.max((token + 1).saturating_sub(window));
                window_keys[start - first_key..=token - first_key].fill(0.0);
                match &chosen[token] {
                    Some(chosen) => chosen.iter().for_each(|run| summaries[*run as usize] = 0.0),
                    None => summaries[..ended(token)].fill(0.0),
                }
            }
            let hidden =
                Tensor::<B, 3>::from_data(TensorData::new(hidden, [queries, 1, count]), &key.device());
            let rows = query.clone().slice(s![first..last, ..]).reshape([queries * num_heads, head_dim]);
            let scores = rows.matmul(keys.clone().swap_dims(0, 1)) * (head_dim as f64).powf(-0.5);
            let scores = scores.reshape([queries, num_heads, count]) + hidden;
            let max = scores.clone().max_dim(2).max_pair(self.sinks.clone().repeat_dim(0, queries));
            let weights = (scores - max.clone()).exp();
            let sum = weights.clone().sum_dim(2) + (self.sinks.clone() - max).exp();
            let mixed = weights.reshape([queries * num_heads, count]).matmul(keys);
            let mixed = mixed.reshape([queries, num_heads, head_dim]) / sum;
            blocks.push(mixed.reshape([queries, num_heads * head_dim]));
        }
    }

    /// The dimensions of each head as the checkpoint has them: those that are not rotated, and then the pairs of the
    /// others side by side.
    fn in_stored_order(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let CompressedAttentionSpec { num_heads, head_dim, ref rope, .. } = self.spec;
        let [tokens, width] = x.dims();
        let half = rope.rotary_dim / 2;
        let heads = x.reshape([tokens, num_heads, head_dim]);
        let pairs: Tensor<B, 4> = Tensor::stack(
            vec![heads.clone().slice(s![.., .., 0..half]), heads.clone().slice(s![.., .., half..2 * half])],
            3,
        );
        let mut parts = vec![pairs.reshape([tokens, num_heads, 2 * half])];
        if head_dim > 2 * half {
            parts.insert(0, heads.slice(s![.., .., 2 * half..]));
        }
        Tensor::cat(parts, 2).reshape([tokens, width])
    }

    /// [tokens, heads * head_dim] -> [tokens, groups * rank].
    fn grouped(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let width = x.dims()[1] / self.by_group.len();
        let of_group = |(group, linear): (usize, &Linear<B>)| {
            linear.forward(x.clone().slice(s![.., group * width..(group + 1) * width]))
        };
        Tensor::cat(self.by_group.iter().enumerate().map(of_group).collect(), 1)
    }
}

/// The same norm without a weight.
fn unweighted(norm: NormSpec) -> NormSpec {
    NormSpec { kind: NormKind::RmsUnweighted, ..norm }
}
