//! The lightning indexer of DeepSeek's sparse attention (DeepSeek-AI 2025): which keys each query sees.

use burn::tensor::Tensor;
use sli_core::{IndexerSpec, Result, TensorRole};
use sli_kernels::ChosenKeys;

use crate::backend::SliBackend;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;
use crate::rope::RopeTable;

/// The indexer with its weights.
#[derive(Clone, Debug)]
pub(crate) struct Indexer<B: SliBackend> {
    spec: IndexerSpec,
    query: Linear<B>,
    key: Linear<B>,
    key_norm: Norm<B>,
    weights: Linear<B>,
}

impl<B: SliBackend> Indexer<B> {
    /// Takes the indexer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &IndexerSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{IndexKey, IndexKeyNorm, IndexQuery, IndexWeights};
        let linear = |role| Linear::new(loader, role, false);
        Ok(Self {
            query: linear(IndexQuery)?,
            key: linear(IndexKey)?,
            key_norm: Norm::load(spec.norm, loader, IndexKeyNorm)?,
            weights: linear(IndexWeights)?,
            spec: spec.clone(),
        })
    }

    /// The most keys that a query sees.
    pub(crate) fn top_k(&self) -> usize {
        self.spec.top_k
    }

    /// Chooses among the keys up to each query, from the queries' latent and the hidden state.
    pub(crate) fn choose(
        &self,
        query_latent: Tensor<B, 2>,
        x: Tensor<B, 2>,
        table: Option<&RopeTable>,
        offsets: &[usize],
    ) -> ChosenKeys {
        let IndexerSpec { num_heads, head_dim, top_k, .. } = self.spec;
        let mut query = self.query.forward(query_latent);
        let mut key = self.key_norm.forward(self.key.forward(x.clone()));
        if let Some(table) = table {
            query = B::rotate(query, num_heads, table);
            key = B::rotate(key, 1, table);
        }
        // Scaling all scores alike changes no choice.
        let (query, key, weights) = (B::to_host(query), B::to_host(key), B::to_host(self.weights.forward(x)));
        ChosenKeys::by_index(&query, &key, &weights, num_heads, head_dim, offsets, top_k)
    }
}
