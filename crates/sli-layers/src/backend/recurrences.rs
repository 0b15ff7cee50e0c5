//! Recurrences over tokens in plain Burn, one token after the other: what any backend can run, and the oracle for those
//! that have their own kernels.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, s};
use sli_kernels::{DeltaRule, StateRule};

use crate::backend::{DeltaInputs, HeadScanShape, Scan, StateInputs};

pub(super) fn selective_scan<B: Backend>(
    scan: Scan<B>,
    a: &Tensor<B, 2>,
    d: &Tensor<B, 1>,
    offsets: &[usize],
) -> Tensor<B, 2> {
    let [channels, state] = a.dims();
    let mut outputs = Vec::new();
    for sample in offsets.windows(2) {
        let mut h = Tensor::<B, 2>::zeros([channels, state], &a.device());
        for t in sample[0]..sample[1] {
            let column = |x: &Tensor<B, 2>| x.clone().slice(s![t..t + 1, ..]).swap_dims(0, 1); // [channels, 1]
            let (x, delta) = (column(&scan.x), column(&scan.delta));
            let b = scan.b.clone().slice(s![t..t + 1, ..]); // [1, state]
            let c = scan.c.clone().slice(s![t..t + 1, ..]);
            h = (a.clone() * delta.clone()).exp() * h + (delta * x) * b;
            outputs.push((h.clone() * c).sum_dim(1).swap_dims(0, 1)); // [1, channels]
        }
    }
    let skip = scan.x * d.clone().unsqueeze();
    if outputs.is_empty() { skip } else { Tensor::cat(outputs, 0) + skip }
}

pub(super) fn head_scan<B: Backend>(
    shape: HeadScanShape,
    input: Tensor<B, 2>,
    step: Tensor<B, 2>,
    a: &Tensor<B, 1>,
    d: &Tensor<B, 1>,
    offsets: &[usize],
) -> Tensor<B, 2> {
    let HeadScanShape { head_dim, num_groups, state: rows } = shape;
    let ([tokens, _], [heads]) = (input.dims(), a.dims());
    let shared = num_groups * rows;
    let x = input.clone().slice(s![.., 0..heads * head_dim]).reshape([tokens, heads, head_dim]);
    // For each head what its group has.
    let of_heads = |from: usize| {
        let of_groups = input.clone().slice(s![.., from..from + shared]);
        of_groups
            .reshape([tokens, num_groups, 1, rows])
            .repeat_dim(2, heads / num_groups)
            .reshape([tokens, heads, rows])
    };
    let (b, c) = (of_heads(heads * head_dim), of_heads(heads * head_dim + shared));
    let kept = (step.clone() * a.clone().unsqueeze()).exp();
    let written = x.clone() * step.unsqueeze_dim::<3>(2);
    let mut outputs = Vec::new();
    for sample in offsets.windows(2) {
        let mut state = Tensor::<B, 3>::zeros([heads, rows, head_dim], &x.device());
        for t in sample[0]..sample[1] {
            let column = |x: &Tensor<B, 3>| x.clone().slice(s![t..t + 1, .., ..]).reshape([heads, rows, 1]);
            let kept = kept.clone().slice(s![t..t + 1, ..]).reshape([heads, 1, 1]);
            let written = written.clone().slice(s![t..t + 1, .., ..]).reshape([heads, 1, head_dim]);
            state = state * kept + column(&b) * written;
            outputs.push((state.clone() * column(&c)).sum_dim(1).reshape([1, heads * head_dim]));
        }
    }
    let skip = (x * d.clone().reshape([1, heads, 1])).reshape([tokens, heads * head_dim]);
    if outputs.is_empty() { skip } else { Tensor::cat(outputs, 0) + skip }
}

pub(super) fn delta_rule<B: Backend>(
    rule: &DeltaRule,
    inputs: DeltaInputs<B>,
    offsets: &[usize],
) -> Tensor<B, 2> {
    let DeltaRule { num_key_heads, num_heads, key_dim, value_dim, decays } = *rule;
    let mut outputs = Vec::new();
    for sample in offsets.windows(2) {
        let mut state = Tensor::<B, 3>::zeros([num_heads, key_dim, value_dim], &inputs.value.device());
        for t in sample[0]..sample[1] {
            let row = |x: &Tensor<B, 2>, shape: [usize; 3]| x.clone().slice(s![t..t + 1, ..]).reshape(shape);
            // A key head for each value head, as a column.
            let column = |x: &Tensor<B, 2>| {
                row(x, [num_key_heads, 1, key_dim])
                    .repeat_dim(1, num_heads / num_key_heads)
                    .reshape([num_heads, key_dim, 1])
            };
            let (query, key) = (column(&inputs.query), column(&inputs.key));
            let value = row(&inputs.value, [num_heads, 1, value_dim]);
            state = state * row(&inputs.decay, [num_heads, decays, 1]);
            let stored = (state.clone() * key.clone()).sum_dim(1); // [heads, 1, value_dim]
            let change = (value - stored) * row(&inputs.write, [num_heads, 1, 1]);
            state = state + key * change;
            outputs.push((state.clone() * query).sum_dim(1).reshape([1, num_heads * value_dim]));
        }
    }
    if outputs.is_empty() { inputs.value } else { Tensor::cat(outputs, 0) }
}

pub(super) fn state_rule<B: Backend>(
    rule: &StateRule,
    inputs: StateInputs<B>,
    offsets: &[usize],
) -> Tensor<B, 2> {
    let StateRule { num_heads, head_dim, reads_first } = *rule;
    let mut outputs = Vec::new();
    for sample in offsets.windows(2) {
        let mut state = Tensor::<B, 3>::zeros([num_heads, head_dim, head_dim], &inputs.value.device());
        for t in sample[0]..sample[1] {
            let row = |x: &Tensor<B, 2>, shape: [usize; 3]| x.clone().slice(s![t..t + 1, ..]).reshape(shape);
            let column = |x: &Tensor<B, 2>| row(x, [num_heads, head_dim, 1]);
            let written = column(&inputs.key) * row(&inputs.value, [num_heads, 1, head_dim]);
            let old = state.clone();
            state = state * column(&inputs.decay) + written;
            if let Some([from, to]) = &inputs.moved {
                let found = (old.clone() * column(from)).sum_dim(1); // [heads, 1, head_dim]
                state = state + column(to) * found;
            }
            let seen = if reads_first { old } else { state.clone() };
            outputs.push((seen * column(&inputs.read)).sum_dim(1).reshape([1, num_heads * head_dim]));
        }
    }
    if outputs.is_empty() { inputs.value } else { Tensor::cat(outputs, 0) }
}

pub(super) fn wkv<B: Backend>(
    decay: &Tensor<B, 1>,
    bonus: &Tensor<B, 1>,
    key: Tensor<B, 2>,
    value: Tensor<B, 2>,
    offsets: &[usize],
) -> Tensor<B, 2> {
    const NOTHING: f32 = -1e38;
    let channels = decay.dims()[0];
    let (decay, bonus) = (decay.clone().reshape([1, channels]), bonus.clone().reshape([1, channels]));
    let mut outputs = Vec::new();
    for sample in offsets.windows(2) {
        let zeros = Tensor::<B, 2>::zeros([1, channels], &decay.device());
        let (mut values, mut weights, mut largest) = (zeros.clone(), zeros.clone(), zeros + NOTHING);
        for t in sample[0]..sample[1] {
            let (k, v) = (key.clone().slice(s![t..t + 1, ..]), value.clone().slice(s![t..t + 1, ..]));
            let join = |past: Tensor<B, 2>, own: Tensor<B, 2>| {
                let top = past.clone().max_pair(own.clone());
                (top.clone(), (past - top.clone()).exp(), (own - top).exp())
            };
            let (_, past, own) = join(largest.clone(), k.clone() + bonus.clone());
            let sum = past.clone() * values.clone() + own.clone() * v.clone();
            outputs.push(sum / (past * weights.clone() + own));
            let (top, past, own) = join(largest - decay.clone(), k);
            values = past.clone() * values + own.clone() * v;
            weights = past * weights + own;
            largest = top;
        }
    }
    if outputs.is_empty() { value } else { Tensor::cat(outputs, 0) }
}
