//! Multi-head latent attention over packed samples (DeepSeek-AI 2024, section 2.1).

use burn::tensor::Tensor;
use sli_core::{MlaSpec, Result, TensorRole};
use sli_kernels::{Attention, Precision};

use crate::backend::SliBackend;
use crate::context::ChunkContext;
use crate::indexer::Indexer;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;

/// Latent attention with its weights. Keys and values are expanded from the latent: whole samples are read at once,
/// so there is nothing to cache.
#[derive(Clone, Debug)]
pub struct MlaLayer<B: SliBackend> {
    spec: MlaSpec,
    precision: Precision,
    /// From the hidden state to the queries' latent, where they have one.
    query_down: Option<(Linear<B>, Norm<B>)>,
    query: Linear<B>,
    latent: Linear<B>,
    latent_norm: Norm<B>,
    rotary_key: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    output: Linear<B>,
    indexer: Option<Indexer<B>>,
}

impl<B: SliBackend> MlaLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &MlaSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::*;
        let linear = |role, bias| Linear::new(loader, role, bias);
        let query_down = match spec.query_rank {
            Some(_) => {
                let norm = Norm::load(spec.norm, loader, MlaQueryNorm)?;
                Some((linear(MlaQueryDown, spec.bias)?, norm))
            }
            None => None,
        };
        let indexer = spec.indexer.as_ref();
        Ok(Self {
            precision: loader.precision,
            query_down,
            query: linear(MlaQuery, false)?,
            latent: linear(MlaLatent, spec.bias)?,
            latent_norm: Norm::load(spec.norm, loader, MlaLatentNorm)?,
            rotary_key: linear(MlaRotaryKey, spec.bias)?,
            key: linear(MlaKey, false)?,
            value: linear(MlaValue, false)?,
            output: linear(AttnOut, spec.bias)?,
            indexer: indexer.map(|indexer| Indexer::new(indexer, loader)).transpose()?,
            spec: spec.clone(),
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], each sample looking at itself.
    pub fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let spec = &self.spec;
        let [query_scale, latent_scale] = spec.latent_scales;
        let query_latent = match &self.query_down {
            Some((down, norm)) => scaled(norm.forward(down.forward(x.clone())), query_scale),
            None => scaled(x.clone(), query_scale),
        };
        let mut query = self.query.forward(query_latent.clone()); // [tokens, heads * (rotary + content)]
        let mut rotary_key = self.rotary_key.forward(x.clone());
        let table =
            spec.rope.as_ref().map(|rope| context.rope.for_tokens(rope, context.offsets, context.positions));
        if let Some(table) = &table {
            query = B::rotate(query, spec.num_heads, table);
            rotary_key = B::rotate(rotary_key, 1, table);
        }
        let latent = scaled(self.latent_norm.forward(self.latent.forward(x.clone())), latent_scale);
        let key = B::lead_heads(rotary_key, self.key.forward(latent.clone()), spec.num_heads);
        let value = self.value.forward(latent);

        let attention = Attention::causal(
            [spec.num_heads, spec.num_heads],
            [spec.head_dim(), spec.value_dim],
            spec.scale as f32,
        );
        let offsets = context.offsets;
        let mixed = match &self.indexer {
            // A query that sees no more keys than it may choose sees them all.
            Some(indexer) if context.longest_sample() > indexer.top_k() => {
                let chosen = indexer.choose(query_latent, x, table.as_ref(), offsets);
                B::chosen_attention(&attention, query, key, value, offsets, &chosen)
            }
            _ => B::packed_attention(&attention, query, key, value, offsets, offsets, self.precision),
        };
        self.output.forward(mixed)
    }
}

fn scaled<B: SliBackend>(x: Tensor<B, 2>, scale: f64) -> Tensor<B, 2> {
    if scale == 1.0 { x } else { x * scale }
}
