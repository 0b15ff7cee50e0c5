//! `attention PRECISION MASK TOKENS HEADS KV_HEADS HEAD_DIM VALUE_DIM`: one sample.

use sli_kernels::{Attention, Mask, Precision, attention};

use crate::{Case, Work, values};

/// (tokens, heads, heads of keys, width of keys, width of values); the last one is that of multi-head latent attention.
const SHAPES: [(usize, usize, usize, usize, usize); 6] = [
    (512, 16, 16, 64, 64),
    (2048, 16, 16, 64, 64),
    (512, 32, 8, 128, 128),
    (2048, 32, 8, 128, 128),
    (16384, 4, 1, 128, 128),
    (2048, 16, 16, 192, 128),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for precision in [Precision::Bf16, Precision::F32] {
            for mask in [Mask::Causal, Mask::Bidirectional] {
                let (tokens, heads, kv_heads, head_dim, value_dim) = shape;
                let inputs = if precision == Precision::F32 { "f32" } else { "bf16" };
                let (seen, mask_name) = match mask {
                    Mask::Causal => (tokens * (tokens + 1) / 2, "causal"),
                    _ => (tokens * tokens, "full"),
                };
                let name = format!(
                    "attention {inputs} {mask_name} {tokens} {heads} {kv_heads} {head_dim} {value_dim}"
                );
                let work = Work::Flops(2 * seen * heads * (head_dim + value_dim), precision);
                cases.push(Case::new(name, work, move || prepare(shape, precision, mask)));
            }
        }
    }
    cases
}

fn prepare(
    (tokens, num_heads, num_kv_heads, head_dim, value_dim): (usize, usize, usize, usize, usize),
    precision: Precision,
    mask: Mask,
) -> Box<dyn FnMut()> {
    let query = values(tokens * num_heads * head_dim);
    let key = values(tokens * num_kv_heads * head_dim);
    let value = values(tokens * num_kv_heads * value_dim);
    let mut out = vec![0.0; tokens * num_heads * value_dim];
    Box::new(move || {
        let a = Attention {
            mask,
            ..Attention::causal(
                [num_heads, num_kv_heads],
                [head_dim, value_dim],
                1.0 / (head_dim as f32).sqrt(),
            )
        };
        attention(&a, &query, &key, &value, &[0, tokens], &[0, tokens], precision, &mut out);
    })
}
