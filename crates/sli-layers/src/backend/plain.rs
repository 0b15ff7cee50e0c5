//! The operations in plain Burn: what any backend can run, and the oracle for those that have their own kernels.

use burn::tensor::activation;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, s};
use half::bf16;
use sli_core::NormSpec;
use sli_kernels::{Activation, Attention, Bias, ChosenKeys, Disentangled, Mask, Precision};

use crate::backend::into_f32;
use crate::rope::RopeTable;

/// Rounds what enters a product, as the precision says.
pub(super) fn rounded<B: Backend, const D: usize>(x: Tensor<B, D>, precision: Precision) -> Tensor<B, D> {
    match precision {
        Precision::F32 => x,
        Precision::Bf16 => {
            let (shape, device) = (x.shape(), x.device());
            let values: Vec<f32> =
                into_f32(x.into_data()).into_iter().map(|v| bf16::from_f32(v).to_f32()).collect();
            Tensor::from_data(TensorData::new(values, shape), &device)
        }
    }
}

pub(super) fn round_rows<B: Backend>(x: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let largest = x.clone().abs().max_dim(1).clamp_min(1e-5);
    let scales = largest.ones_like() * 127.0 / largest;
    ((x * scales.clone()).round(), scales)
}

pub(super) fn packed_attention<B: Backend>(
    attention: &Attention<'_>,
    query: Tensor<B, 2>,
    key: Tensor<B, 2>,
    value: Tensor<B, 2>,
    query_offsets: &[usize],
    key_offsets: &[usize],
    precision: Precision,
) -> Tensor<B, 2> {
    let width = attention.num_heads * attention.value_dim;
    let mut samples = Vec::new();
    for (q, k) in query_offsets.windows(2).zip(key_offsets.windows(2)) {
        let (queries, keys) = (q[1] - q[0], k[1] - k[0]);
        if queries == 0 {
            continue;
        }
        if keys == 0 {
            samples.push(Tensor::zeros([queries, width], &query.device()));
            continue;
        }
        let sample = sample_attention(
            attention,
            query.clone().slice(s![q[0]..q[1], ..]),
            key.clone().slice(s![k[0]..k[1], ..]),
            value.clone().slice(s![k[0]..k[1], ..]),
            precision,
        );
        samples.push(sample);
    }
    if samples.is_empty() { Tensor::zeros([0, width], &query.device()) } else { Tensor::cat(samples, 0) }
}

/// Attention of one sample, heads first.
fn sample_attention<B: Backend>(
    attention: &Attention<'_>,
    query: Tensor<B, 2>,
    key: Tensor<B, 2>,
    value: Tensor<B, 2>,
    precision: Precision,
) -> Tensor<B, 2> {
    let device = query.device();
    let (queries, keys) = (query.dims()[0], key.dims()[0]);
    let shared_by = attention.num_heads / attention.num_kv_heads;
    let heads_first = |x: Tensor<B, 2>, heads: usize, dim: usize, repeat: usize| {
        let rows = x.dims()[0];
        let x: Tensor<B, 4> = x.reshape([rows, heads, dim]).swap_dims(0, 1).unsqueeze_dim(1); // [heads, 1, rows, dim]
        x.repeat_dim(1, repeat).reshape([heads * repeat, rows, dim])
    };
    let q = heads_first(rounded(query, precision), attention.num_heads, attention.head_dim, 1);
    let k = heads_first(rounded(key, precision), attention.num_kv_heads, attention.head_dim, shared_by);
    let v = heads_first(rounded(value, precision), attention.num_kv_heads, attention.value_dim, shared_by);

    let mut scores = q.clone().matmul(k.clone().swap_dims(1, 2)); // [heads, queries, keys]
    if let Bias::Disentangled(of) = attention.bias {
        let shape = [attention.num_heads, attention.head_dim];
        scores = scores + terms_by_distance(of, shape, q, k, precision);
    }
    let mut scores = scores * attention.scale;
    if let Some(cap) = attention.softcap {
        scores = (scores / cap).tanh() * cap;
    }
    if let Some(sharpness) = attention.sharpness {
        let by_query = TensorData::new(sharpness[..queries].to_vec(), [1, queries, 1]);
        scores = scores * Tensor::from_data(by_query, &device);
    }
    if let Some(bias) = bias_table(attention, queries, keys, &device) {
        scores = scores + bias;
    }
    let hidden = hidden_keys(attention.mask, attention.num_heads, queries, keys, &device);
    let scores = scores.mask_fill(hidden, f32::NEG_INFINITY);

    let (weights, sum) = softmax_with_sinks(scores, attention.sinks);
    let out = rounded(weights, precision).matmul(v) / sum; // [heads, queries, value_dim]
    out.swap_dims(0, 1).reshape([queries, attention.num_heads * attention.value_dim])
}

/// What queries and keys of a sample, [heads, tokens, head_dim], have with the rows of their distances:
/// [heads, tokens, tokens].
fn terms_by_distance<B: Backend>(
    of: Disentangled<'_>,
    [heads, head_dim]: [usize; 2],
    query: Tensor<B, 3>,
    key: Tensor<B, 3>,
    precision: Precision,
) -> Tensor<B, 3> {
    let (device, tokens) = (query.device(), query.dims()[1]);
    let row = |i: usize, j: usize| of.row_of[of.row_of.len() / 2 + i - j] as i32;
    let index = |row: &dyn Fn(usize, usize) -> i32| {
        let rows: Vec<i32> = (0..tokens).flat_map(|i| (0..tokens).map(move |j| row(i, j))).collect();
        let rows = Tensor::<B, 3, Int>::from_data(TensorData::new(rows, [1, tokens, tokens]), &device);
        rows.repeat_dim(0, heads)
    };
    // [heads, tokens, rows]
    let met = |x: Tensor<B, 3>, rows: &[f32]| {
        let rows = TensorData::new(rows.to_vec(), [rows.len() / (heads * head_dim), heads, head_dim]);
        let rows = rounded(Tensor::<B, 3>::from_data(rows, &device), precision);
        x.matmul(rows.swap_dims(0, 1).swap_dims(1, 2))
    };
    let mut sum = Tensor::zeros([heads, tokens, tokens], &device);
    if let Some(rows) = of.keys {
        sum = sum + met(query, rows).gather(2, index(&row));
    }
    if let Some(rows) = of.queries {
        let by_key = met(key, rows).gather(2, index(&|j, i| row(i, j)));
        sum = sum + by_key.swap_dims(1, 2);
    }
    sum
}

/// Attention of each sample with all keys but the chosen ones hidden.
pub(super) fn chosen_attention<B: Backend>(
    attention: &Attention<'_>,
    query: Tensor<B, 2>,
    key: Tensor<B, 2>,
    value: Tensor<B, 2>,
    offsets: &[usize],
    chosen: &ChosenKeys,
) -> Tensor<B, 2> {
    let (heads, device) = (attention.num_heads, query.device());
    let mut samples = Vec::new();
    for sample in offsets.windows(2).filter(|sample| sample[1] > sample[0]) {
        let tokens = sample[1] - sample[0];
        let heads_first = |x: &Tensor<B, 2>, dim: usize| {
            let x: Tensor<B, 3> = x.clone().slice(s![sample[0]..sample[1], ..]).reshape([tokens, heads, dim]);
            x.swap_dims(0, 1)
        };
        let q = heads_first(&query, attention.head_dim);
        let k = heads_first(&key, attention.head_dim);
        let v = heads_first(&value, attention.value_dim);
        let mut hidden = vec![true; tokens * tokens];
        for i in 0..tokens {
            chosen.of(sample[0] + i).iter().for_each(|j| hidden[i * tokens + *j as usize] = false);
        }
        let hidden = Tensor::<B, 2, Bool>::from_data(TensorData::new(hidden, [tokens, tokens]), &device);
        let scores = q.matmul(k.swap_dims(1, 2)) * attention.scale;
        let hidden = hidden.unsqueeze_dim::<3>(0).repeat_dim(0, heads);
        let (weights, sum) = softmax_with_sinks(scores.mask_fill(hidden, f32::NEG_INFINITY), None);
        let out = weights.matmul(v) / sum;
        samples.push(out.swap_dims(0, 1).reshape([tokens, heads * attention.value_dim]));
    }
    if samples.is_empty() {
        Tensor::zeros([0, heads * attention.value_dim], &device)
    } else {
        Tensor::cat(samples, 0)
    }
}

/// exp(score - max) and its sum; a sink joins the sum only. Rows that see nothing give zeros.
fn softmax_with_sinks<B: Backend>(
    scores: Tensor<B, 3>,
    sinks: Option<&[f32]>,
) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let device = scores.device();
    let [heads, queries, _] = scores.dims();
    let mut max = scores.clone().max_dim(2);
    let sink = sinks.map(|sinks| {
        Tensor::<B, 3>::from_data(TensorData::new(sinks.to_vec(), [heads, 1, 1]), &device)
            .repeat_dim(1, queries)
    });
    if let Some(sink) = &sink {
        max = max.max_pair(sink.clone());
    }
    let max = max.clamp_min(f32::MIN);
    let weights = (scores - max.clone()).exp();
    let mut sum = weights.clone().sum_dim(2);
    if let Some(sink) = sink {
        sum = sum + (sink - max).exp();
    }
    let empty = sum.clone().equal_elem(0.0);
    (weights, sum.mask_fill(empty, 1.0))
}

/// Which keys a query does not see, [heads, queries, keys].
fn hidden_keys<B: Backend>(
    mask: Mask,
    heads: usize,
    queries: usize,
    keys: usize,
    device: &Device<B>,
) -> Tensor<B, 3, Bool> {
    let sees = |head: usize, i: usize, j: usize| match mask {
        Mask::Causal => j <= i,
        Mask::CausalWindow(window) => j <= i && i < j + window,
        Mask::Prefix(prefix) => j <= i || j < prefix,
        Mask::Bidirectional => true,
        Mask::BidirectionalWindow(reach) => i.abs_diff(j) <= reach,
        Mask::Chunked(size) => j <= i && i / size == j / size,
        Mask::Strided { block, local, stride, shift } => {
            let is_local = i / block < j / block + local;
            j <= i && (is_local || (j / block + head * shift + 1).is_multiple_of(stride))
        }
    };
    let alike = if matches!(mask, Mask::Strided { .. }) { 1 } else { heads };
    let of_head = |head| (0..queries).flat_map(move |i| (0..keys).map(move |j| !sees(head, i, j)));
    let hidden: Vec<bool> = (0..heads / alike).flat_map(of_head).collect();
    let hidden =
        Tensor::<B, 3, Bool>::from_data(TensorData::new(hidden, [heads / alike, queries, keys]), device);
    hidden.repeat_dim(0, alike)
}

fn bias_table<B: Backend>(
    a: &Attention<'_>,
    queries: usize,
    keys: usize,
    device: &Device<B>,
) -> Option<Tensor<B, 3>> {
    let value = |head: usize, i: isize, j: isize| match (a.bias, j - i) {
        (Bias::None | Bias::Disentangled(_), _) => 0.0,
        (Bias::Alibi { slopes, symmetric: false }, distance) => slopes[head] * distance as f32,
        (Bias::Alibi { slopes, symmetric: true }, distance) => -slopes[head] * distance.unsigned_abs() as f32,
        (Bias::Distance { table, span, first }, distance) => table[head * span + (distance - first) as usize],
        (Bias::Key { table, span }, _) => table[head * span + j as usize],
    };
    if matches!(a.bias, Bias::None | Bias::Disentangled(_)) {
        return None;
    }
    let mut values = Vec::with_capacity(a.num_heads * queries * keys);
    for head in 0..a.num_heads {
        for i in 0..queries as isize {
            values.extend((0..keys as isize).map(|j| value(head, i, j)));
        }
    }
    Some(Tensor::from_data(TensorData::new(values, [a.num_heads, queries, keys]), device))
}

pub(super) fn normalize<B: Backend>(
    x: Tensor<B, 2>,
    spec: NormSpec,
    width: usize,
    weight: Option<&Tensor<B, 1>>,
    bias: Option<&Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let [rows, columns] = x.dims();
    let mut x = x.reshape([rows * columns / width, width]);
    if spec.is_centred() {
        let mean = x.clone().mean_dim(1);
        x = x - mean;
    }
    let scale = ((x.clone() * x.clone()).mean_dim(1) + spec.eps).sqrt();
    let mut y = x / scale;
    if let Some(weight) = weight {
        y = y * weight.clone().unsqueeze();
    }
    if let Some(bias) = bias {
        y = y + bias.clone().unsqueeze();
    }
    y.reshape([rows, columns])
}

pub(super) fn nonlinearity<B: Backend>(kind: Activation, x: Tensor<B, 2>) -> Tensor<B, 2> {
    match kind {
        Activation::Identity => x,
        Activation::Relu => activation::relu(x),
        Activation::ReluSquared => activation::relu(x).powf_scalar(2.0),
        Activation::Gelu => x.clone() * ((x / std::f64::consts::SQRT_2).erf() + 1.0) * 0.5,
        Activation::GeluTanh => {
            let inner =
                (x.clone() + x.clone().powf_scalar(3.0) * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
            x * (inner.tanh() + 1.0) * 0.5
        }
        Activation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
        Activation::Silu => activation::silu(x),
        Activation::Sigmoid => activation::sigmoid(x),
        Activation::Tanh => x.tanh(),
        // max(x, 0) + ln(1 + e^-|x|): no overflow.
        Activation::Softplus => activation::relu(x.clone()) + x.abs().neg().exp().log1p(),
    }
}

pub(super) fn rotate<B: Backend>(x: Tensor<B, 2>, heads: usize, table: &RopeTable) -> Tensor<B, 2> {
    let device = x.device();
    let [tokens, columns] = x.dims();
    let (head_dim, half) = (columns / heads, table.rotary_dim / 2);
    let angles = |values: &[f32]| {
        Tensor::<B, 3>::from_data(TensorData::new(values.to_vec(), [tokens, 1, half]), &device)
            .repeat_dim(1, heads)
    };
    let (cos, sin) = (angles(&table.cos), angles(&table.sin));
    let x = x.reshape([tokens, heads, head_dim]);
    let first = x.clone().slice(s![.., .., 0..half]);
    let second = x.clone().slice(s![.., .., half..2 * half]);
    let mut parts = vec![
        first.clone() * cos.clone() - second.clone() * sin.clone(), //
        second * cos + first * sin,
    ];
    if head_dim > 2 * half {
        parts.push(x.slice(s![.., .., 2 * half..]));
    }
    Tensor::cat(parts, 2).reshape([tokens, columns])
}

pub(super) fn causal_convolution<B: Backend>(
    x: Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: Option<&Tensor<B, 1>>,
    offsets: &[usize],
) -> Tensor<B, 2> {
    let ([_, channels], [_, width]) = (x.dims(), weight.dims());
    let device = x.device();
    let mut samples = Vec::new();
    for sample in offsets.windows(2).filter(|sample| sample[1] > sample[0]) {
        let tokens = sample[1] - sample[0];
        let before = Tensor::zeros([width - 1, channels], &device);
        let padded = Tensor::cat(vec![before, x.clone().slice(s![sample[0]..sample[1], ..])], 0);
        let mut sum = Tensor::zeros([tokens, channels], &device);
        for tap in 0..width {
            let w = weight.clone().slice(s![.., tap..tap + 1]).swap_dims(0, 1); // [1, channels]
            sum = sum + padded.clone().slice(s![tap..tap + tokens, ..]) * w;
        }
        samples.push(sum);
    }
    let y = if samples.is_empty() { x } else { Tensor::cat(samples, 0) };
    match bias {
        Some(bias) => y + bias.clone().unsqueeze(),
        None => y,
    }
}

fn indices<B: Backend>(rows: &[u32], device: &Device<B>) -> Tensor<B, 1, Int> {
    let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

pub(super) fn gather<B: Backend>(x: &Tensor<B, 2>, rows: &[u32]) -> Tensor<B, 2> {
    x.clone().select(0, indices(rows, &x.device()))
}

pub(super) fn scatter_add<B: Backend>(
    sum: Tensor<B, 2>,
    x: Tensor<B, 2>,
    rows: &[u32],
    scale: &[f32],
) -> Tensor<B, 2> {
    let device = x.device();
    let scale = Tensor::<B, 2>::from_data(TensorData::new(scale.to_vec(), [scale.len(), 1]), &device);
    sum.select_assign(0, indices(rows, &device), x * scale, burn::tensor::IndexingUpdateOp::Add)
}
