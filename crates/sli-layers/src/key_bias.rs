//! Attention that values themselves steer: what is added to the scores of a key follows from its values, and of many
//! keys those with the most are seen (Doge).

use burn::tensor::{Tensor, s};
use sli_core::{Result, TensorRole};
use sli_kernels::{Activation, Attention, Bias, ChosenKeys, Precision};

use crate::backend::SliBackend;
use crate::linear::Linear;
use crate::loader::Loader;

/// exp(a softplus(w . v)), for each key head.
#[derive(Clone, Debug)]
pub(crate) struct KeyBias<B: SliBackend> {
    step: Linear<B>,
    /// a, one for each key head.
    rate: Vec<f32>,
    /// Keys that a query sees at most.
    most: usize,
}

impl<B: SliBackend> KeyBias<B> {
    /// Takes the tensors of the projection, with a bias where `bias` says so, and of the rates.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(bias: bool, most: usize, loader: &Loader<B>) -> Result<Self> {
        let step = Linear::new(loader, TensorRole::KeyBias, bias)?;
        Ok(Self { step, rate: loader.values(TensorRole::KeyBiasRate)?, most })
    }

    /// Attention sample by sample, since each has keys and addends of its own.
    pub(crate) fn attend(
        &self,
        attention: &Attention<'_>,
        query: Tensor<B, 2>,
        key: Tensor<B, 2>,
        value: Tensor<B, 2>,
        offsets: &[usize],
        precision: Precision,
    ) -> Tensor<B, 2> {
        let steps = B::nonlinearity(Activation::Softplus, self.step.forward(value.clone()));
        let steps = B::to_host(steps); // [tokens, kv heads]
        let heads = self.rate.len();
        let mixed = offsets.windows(2).filter(|rows| rows[1] > rows[0]).map(|rows| {
            let of_sample = |x: &Tensor<B, 2>| x.clone().slice(s![rows[0]..rows[1], ..]);
            let (query, key, value) = (of_sample(&query), of_sample(&key), of_sample(&value));
            let steps = &steps[rows[0] * heads..rows[1] * heads];
            let by_head = |head: usize| {
                let rate = self.rate[head];
                steps.iter().skip(head).step_by(heads).map(|step| (rate * step).exp()).collect::<Vec<_>>()
            };
            let added: Vec<_> = (0..heads).map(by_head).collect();
            match rows[1] - rows[0] {
                tokens if tokens <= self.most => {
                    let shared = attention.num_heads / heads;
                    let table: Vec<_> = added.iter().flat_map(|of_head| of_head.repeat(shared)).collect();
                    let bias = Bias::Key { table: &table, span: tokens };
                    let (attention, offsets) = (Attention { bias, ..*attention }, [0, tokens]);
                    B::packed_attention(&attention, query, key, value, &offsets, &offsets, precision)
                }
                _ => self.attend_to_most(attention, query, key, value, &added),
            }
        });
        let mixed: Vec<_> = mixed.collect();
        if mixed.is_empty() { query } else { Tensor::cat(mixed, 0) }
    }

    /// The same for one sample with more keys than are seen, key head by key head, since each has a choice of its own.
    fn attend_to_most(
        &self,
        attention: &Attention<'_>,
        query: Tensor<B, 2>,
        key: Tensor<B, 2>,
        value: Tensor<B, 2>,
        added: &[Vec<f32>],
    ) -> Tensor<B, 2> {
        let Attention { head_dim, value_dim, scale, .. } = *attention;
        let (tokens, device) = (query.dims()[0], query.device());
        let shared = attention.num_heads / attention.num_kv_heads;
        let (offsets, ones) = ([0, tokens], vec![1.0; tokens]);
        let of_heads = added.iter().enumerate().map(|(head, added)| {
            // All addends are positive: their order is that of one score with a weight of one.
            let chosen = ChosenKeys::by_index(&ones, added, &ones, 1, 1, &offsets, self.most);
            // One more dimension of queries and keys carries what is added.
            let column = |values: Vec<f32>| B::from_host(values, 1, &device);
            let (one, added) = (column(vec![1.0 / scale; tokens]), column(added.clone()));
            let part =
                |x: &Tensor<B, 2>, at: usize, dim: usize| x.clone().slice(s![.., at * dim..(at + 1) * dim]);
            let queries = (0..shared)
                .flat_map(|place| [part(&query, head * shared + place, head_dim), one.clone()])
                .collect();
            let key = Tensor::cat(vec![part(&key, head, head_dim), added], 1).repeat_dim(1, shared);
            let value = part(&value, head, value_dim).repeat_dim(1, shared);
            let (num_heads, num_kv_heads, head_dim) = (shared, shared, head_dim + 1);
            let attention = Attention { num_heads, num_kv_heads, head_dim, ..*attention };
            B::chosen_attention(&attention, Tensor::cat(queries, 1), key, value, &offsets, &chosen)
        });
        Tensor::cat(of_heads.collect(), 1)
    }
}
