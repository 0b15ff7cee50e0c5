//! Sparse attention: an index chooses the keys that a query sees (DeepSeek-AI 2025).

use rayon::prelude::*;

use crate::attention::Attention;
use crate::isa::{Kernel, dispatch, isa};
use crate::math::exp;
use crate::packed::check_offsets;
use crate::simd::Simd;

/// The keys that each query of packed samples sees, counted from the start of its sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenKeys {
    top_k: usize,
    /// [tokens, top_k]; rows of queries with fewer keys end early.
    keys: Vec<u32>,
    /// How many of a row count.
    counts: Vec<u32>,
}

impl ChosenKeys {
    /// The keys up to each query with the largest `sum over heads of weight * relu(query . key)`, `top_k` of them at
    /// most; of equal ones those that come first. Shapes are query `[tokens, heads * dim]`, key `[tokens, dim]`,
    /// weights `[tokens, heads]`.
    ///
    /// # Panics
    /// Where the lengths do not fit together or `top_k` is 0.
    pub fn by_index(
        query: &[f32],
        key: &[f32],
        weights: &[f32],
        heads: usize,
        dim: usize,
        offsets: &[usize],
        top_k: usize,
    ) -> Self {
        let tokens = offsets.last().copied().unwrap_or(0);
        check_offsets("index", offsets, tokens);
        assert!(top_k > 0 && heads * dim > 0, "index: nothing to choose by");
        assert_eq!(query.len(), tokens * heads * dim, "index: length of query");
        assert_eq!((key.len(), weights.len()), (tokens * dim, tokens * heads), "index: lengths");
        let mut chosen = Self { top_k, keys: vec![0; tokens * top_k], counts: vec![0; tokens] };
        let first = first_of_sample(offsets, tokens);
        let isa = isa();
        let rows = chosen.keys.par_chunks_mut(top_k).zip(&mut chosen.counts).enumerate();
        // Scores and an order of keys for each thread, used again and again.
        rows.for_each_init(
            || (Vec::new(), Vec::new()),
            |(scores, order), (token, (row, count))| {
                let seen = token - first[token] + 1;
                *count = seen.min(top_k) as u32;
                order.clear();
                order.extend(0..seen as u32);
                if seen > top_k {
                    let (query, weights) =
                        (&query[token * heads * dim..][..heads * dim], &weights[token * heads..]);
                    scores.clear();
                    scores.resize(seen, 0.0);
                    let keys = &key[first[token] * dim..(token + 1) * dim];
                    dispatch(isa, Score { query, keys, weights, dim, scores });
                    let falling =
                        |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
                    order.select_nth_unstable_by(top_k - 1, falling);
                    order.truncate(top_k);
                    order.sort_unstable();
                }
                row[..order.len()].copy_from_slice(order);
            },
        );
        chosen
    }

    /// The keys that the query of `token` sees, in ascending order.
    pub fn of(&self, token: usize) -> &[u32] {
        &self.keys[token * self.top_k..][..self.counts[token] as usize]
    }
}

/// The token at which each token's sample begins.
fn first_of_sample(offsets: &[usize], tokens: usize) -> Vec<usize> {
    let mut first = vec![0; tokens];
    offsets.windows(2).for_each(|sample| first[sample[0]..sample[1]].fill(sample[0]));
    first
}

/// `scores[j] = sum over heads of weights[h] * relu(query[h] . keys[j])`.
struct Score<'a> {
    query: &'a [f32],
    keys: &'a [f32],
    weights: &'a [f32],
    dim: usize,
    scores: &'a mut [f32],
}

impl Kernel for Score<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (score, key) in self.scores.iter_mut().zip(self.keys.chunks_exact(self.dim)) {
            for (query, weight) in self.query.chunks_exact(self.dim).zip(self.weights) {
                *score += weight * dot(s, query, key).max(0.0);
            }
        }
    }
}

#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(S::LANES), b.chunks_exact(S::LANES));
    let mut sum = s.mul(s.load_partial(a.remainder(), 0.0), s.load_partial(b.remainder(), 0.0));
    for (a, b) in a.zip(b) {
        sum = s.mul_add(s.load(a), s.load(b), sum);
    }
    s.sum(sum)
}

/// Causal attention of packed samples in which a query sees the chosen keys only. Shapes are those of
/// [`attention`](crate::attention), with as many key as query heads. Computed in f32.
///
/// # Panics
/// Where shapes or offsets do not fit together, or there are fewer key heads than query heads.
pub fn chosen_attention(
    a: &Attention,
    query: &[f32],
    key: &[f32],
    value: &[f32],
    offsets: &[usize],
    chosen: &ChosenKeys,
    out: &mut [f32],
) {
    let Attention { num_heads: heads, num_kv_heads, head_dim, value_dim, scale, .. } = *a;
    let tokens = offsets.last().copied().unwrap_or(0);
    check_offsets("chosen_attention", offsets, tokens);
    assert_eq!(heads, num_kv_heads, "chosen_attention: a key head for each query head");
    let (keys_width, values_width) = (heads * head_dim, heads * value_dim);
    assert!(query.len() == tokens * keys_width && key.len() == query.len(), "chosen_attention: lengths");
    assert!(value.len() == tokens * values_width && out.len() == value.len(), "chosen_attention: lengths");
    if out.is_empty() {
        return;
    }
    let (first, isa) = (first_of_sample(offsets, tokens), isa());
    out.par_chunks_mut(value_dim).enumerate().for_each_init(Vec::new, |weights, (place, out)| {
        let (token, head) = (place / heads, place % heads);
        let sample = first[token];
        let one = OneQuery {
            query: &query[token * keys_width + head * head_dim..][..head_dim],
            keys: &key[sample * keys_width + head * head_dim..],
            values: &value[sample * values_width + head * value_dim..],
            pitches: (keys_width, values_width),
            scale,
            chosen: chosen.of(token),
            weights,
            out,
        };
        dispatch(isa, one);
    });
}

/// One head of one query.
struct OneQuery<'a> {
    query: &'a [f32],
    /// From the head's part of the sample's first key on.
    keys: &'a [f32],
    values: &'a [f32],
    /// From one key to the next, and from one value to the next.
    pitches: (usize, usize),
    scale: f32,
    chosen: &'a [u32],
    weights: &'a mut Vec<f32>,
    out: &'a mut [f32],
}

impl Kernel for OneQuery<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { query, keys, values, pitches, scale, chosen, weights, out } = self;
        weights.clear();
        weights.resize(chosen.len(), 0.0);
        for (weight, j) in weights.iter_mut().zip(chosen) {
            *weight = scale * dot(s, query, &keys[*j as usize * pitches.0..][..query.len()]);
        }
        let most = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for weights in weights.chunks_mut(S::LANES) {
            let shifted = s.sub(s.load_up_to(weights), s.splat(most));
            s.store_up_to(weights, exp(s, shifted));
        }
        let sum: f32 = weights.iter().sum();
        out.fill(0.0);
        for (weight, j) in weights.iter().zip(chosen) {
            let (share, value) = (weight / sum, &values[*j as usize * pitches.1..][..out.len()]);
            for (out, value) in out.iter_mut().zip(value) {
                *out += share * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::attention;
    use crate::isa::tests::for_each_isa;
    use crate::product::Precision;
    use crate::testing::Random;

    fn shape(heads: usize, head_dim: usize, value_dim: usize) -> Attention<'static> {
        Attention::causal([heads, heads], [head_dim, value_dim], 0.3)
    }

    #[test]
    fn the_best_keys_are_chosen_in_ascending_order() {
        // One head of one dimension: the score of key j is 2 * relu(key_j).
        let key = [3.0, -5.0, 1.0, 2.0, 9.0, 9.0];
        let chosen = ChosenKeys::by_index(&[1.0; 6], &key, &[2.0; 6], 1, 1, &[0, 4, 6], 2);
        let of: Vec<&[u32]> = (0..6).map(|token| chosen.of(token)).collect();
        assert_eq!(of, [&[0][..], &[0, 1], &[0, 2], &[0, 3], &[0], &[0, 1]]);
    }

    #[test]
    fn all_keys_chosen_is_causal_attention() {
        let (a, offsets, tokens) = (shape(3, 20, 12), [0, 5, 5, 14], 14);
        let mut random = Random::new(11);
        let (query, key) = (random.values(tokens * 60), random.values(tokens * 60));
        let value = random.values(tokens * 36);
        for_each_isa(|_| {
            let weights = vec![1.0; tokens];
            let chosen = ChosenKeys::by_index(&vec![1.0; tokens], &weights, &weights, 1, 1, &offsets, 100);
            let (mut all, mut sparse) = (vec![0.0; tokens * 36], vec![0.0; tokens * 36]);
            attention(&a, &query, &key, &value, &offsets, &offsets, Precision::F32, &mut all);
            chosen_attention(&a, &query, &key, &value, &offsets, &chosen, &mut sparse);
            assert!(all.iter().zip(&sparse).all(|(a, b)| (a - b).abs() < 1e-5));
        });
    }

    #[test]
    fn a_query_with_one_key_returns_its_value() {
        let key = [0.0, 1.0, 0.0];
        let chosen = ChosenKeys::by_index(&[1.0; 3], &key, &[1.0; 3], 1, 1, &[0, 3], 1);
        let mut out = [0.0; 3];
        chosen_attention(&shape(1, 1, 1), &[1.0; 3], &key, &[7.0, 8.0, 9.0], &[0, 3], &chosen, &mut out);
        assert_eq!(out, [7.0, 8.0, 8.0]);
    }
}
