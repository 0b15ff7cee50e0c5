//! `attention PRECISION MASK TOKENS HEADS KV_HEADS HEAD_DIM VALUE_DIM`: one sample;
//! `samples PRECISION MASK SAMPLES TOKENS HEADS KV_HEADS HEAD_DIM VALUE_DIM`: several, each of so many tokens; and
//! a case of chosen keys.

use sli_kernels::{Attention, ChosenKeys, Mask, Precision, attention, chosen_attention};

use crate::{Case, Work, values};

/// (tokens, heads, heads of keys, width of keys, width of values)
type Shape = (usize, usize, usize, usize, usize);

/// One sample; the last one is that of multi-head latent attention.
const SHAPES: [Shape; 6] = [
    (512, 16, 16, 64, 64),
    (2048, 16, 16, 64, 64),
    (512, 32, 8, 128, 128),
    (2048, 32, 8, 128, 128),
    (16384, 4, 1, 128, 128),
    (2048, 16, 16, 192, 128),
];

/// So many samples each: short texts through small encoders.
const SHORT: [(usize, Shape); 2] = [(128, (8, 12, 12, 32, 32)), (32, (32, 12, 12, 64, 64))];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let alone = SHAPES.map(|shape| (1, shape));
    for (samples, shape) in alone.into_iter().chain(SHORT) {
        for precision in [Precision::Bf16, Precision::F32] {
            for mask in [Mask::Causal, Mask::Bidirectional] {
                let (tokens, heads, kv_heads, head_dim, value_dim) = shape;
                let inputs = if precision == Precision::F32 { "f32" } else { "bf16" };
                let (seen, mask_name) = match mask {
                    Mask::Causal => (tokens * (tokens + 1) / 2, "causal"),
                    _ => (tokens * tokens, "full"),
                };
                let name = match samples {
                    1 => format!("attention {inputs} {mask_name} {tokens}"),
                    _ => format!("samples {inputs} {mask_name} {samples} {tokens}"),
                };
                let name = format!("{name} {heads} {kv_heads} {head_dim} {value_dim}");
                let work = Work::Flops(2 * samples * seen * heads * (head_dim + value_dim), precision);
                cases.push(Case::new(name, work, move || prepare(samples, shape, precision, mask)));
            }
        }
    }
    cases.push(chosen());
    cases
}

/// `chosen TOKENS TOP_K HEADS HEAD_DIM VALUE_DIM`: queries of one sample with the keys that an index gave them.
fn chosen() -> Case {
    let (tokens, top_k, heads, head_dim, value_dim) = (1024, 256, 16, 192, 128);
    // Query i has i + 1 keys to choose from.
    let seen: usize = (1..=tokens).map(|keys| top_k.min(keys)).sum();
    let work = Work::Flops(2 * seen * heads * (head_dim + value_dim), Precision::F32);
    Case::new(format!("chosen {tokens} {top_k} {heads} {head_dim} {value_dim}"), work, move || {
        let (query, key) = (values(tokens * heads * head_dim), values(tokens * heads * head_dim));
        let (value, mut out) = (values(tokens * heads * value_dim), vec![0.0; tokens * heads * value_dim]);
        let (index, weights) = (values(tokens * 64), values(tokens));
        let keys = ChosenKeys::by_index(&index, &index, &weights, 1, 64, &[0, tokens], top_k);
        Box::new(move || {
            let scale = 1.0 / (head_dim as f32).sqrt();
            let a = Attention::causal([heads, heads], [head_dim, value_dim], scale);
            chosen_attention(&a, &query, &key, &value, &[0, tokens], &keys, &mut out);
        })
    })
}

fn prepare(
    samples: usize,
    (tokens, num_heads, num_kv_heads, head_dim, value_dim): Shape,
    precision: Precision,
    mask: Mask,
) -> Box<dyn FnMut()> {
    let query = values(samples * tokens * num_heads * head_dim);
    let key = values(samples * tokens * num_kv_heads * head_dim);
    let value = values(samples * tokens * num_kv_heads * value_dim);
    let mut out = vec![0.0; samples * tokens * num_heads * value_dim];
    let offsets: Vec<usize> = (0..=samples).map(|sample| sample * tokens).collect();
    Box::new(move || {
        let a = Attention {
            mask,
            ..Attention::causal(
                [num_heads, num_kv_heads],
                [head_dim, value_dim],
                1.0 / (head_dim as f32).sqrt(),
            )
        };
        attention(&a, &query, &key, &value, &offsets, &offsets, precision, &mut out);
    })
}
