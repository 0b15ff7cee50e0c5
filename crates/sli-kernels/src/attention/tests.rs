use half::bf16;

use super::*;
use crate::isa::tests::for_each_isa;
use crate::testing::{Random, assert_close};

/// The definition, in f64. `query_lengths` and `key_lengths` are those of the samples.
fn reference(
    a: &Attention,
    query: &[f32],
    key: &[f32],
    value: &[f32],
    query_offsets: &[usize],
    key_offsets: &[usize],
) -> Vec<f64> {
    let Attention { num_heads, num_kv_heads, head_dim, value_dim, .. } = *a;
    let mut out = Vec::new();
    for (queries, keys) in query_offsets.windows(2).zip(key_offsets.windows(2)) {
        for i in 0..queries[1] - queries[0] {
            for head in 0..num_heads {
                let kv = head * num_kv_heads / num_heads;
                let q = &query[((queries[0] + i) * num_heads + head) * head_dim..][..head_dim];
                let mut weights = Vec::new();
                for j in 0..keys[1] - keys[0] {
                    let k = &key[((keys[0] + j) * num_kv_heads + kv) * head_dim..][..head_dim];
                    let product = |x: &[f32], y: &[f32]| -> f64 {
                        x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
                    };
                    let mut dot = product(q, k);
                    if let Bias::Disentangled(of) = a.bias {
                        let row = of.row_of[of.row_of.len() / 2 + i - j] as usize;
                        let of_head = |rows: &'_ [f32]| {
                            rows[(row * num_heads + head) * head_dim..][..head_dim].to_vec()
                        };
                        dot += of.keys.map_or(0.0, |rows| product(q, &of_head(rows)));
                        dot += of.queries.map_or(0.0, |rows| product(&of_head(rows), k));
                    }
                    let mut score = dot * f64::from(a.scale);
                    if let Some(cap) = a.softcap {
                        score = f64::from(cap) * (score / f64::from(cap)).tanh();
                    }
                    score *= f64::from(a.sharpness.map_or(1.0, |sharpness| sharpness[i]));
                    let (x, y) = (i as i64, j as i64);
                    score += f64::from(match a.bias {
                        Bias::None | Bias::Disentangled(_) => 0.0,
                        Bias::Alibi { slopes, symmetric: true } => -slopes[head] * (x - y).abs() as f32,
                        Bias::Alibi { slopes, symmetric: false } => slopes[head] * (y - x) as f32,
                        Bias::Key { table, span } => table[head * span + j],
                        Bias::Distance { table, span, first } => {
                            table[head * span + (y - x - first as i64).clamp(0, span as i64 - 1) as usize]
                        }
                    });
                    let visible = match a.mask {
                        Mask::Causal => y <= x,
                        Mask::CausalWindow(w) => x - (w as i64) < y && y <= x,
                        Mask::Prefix(p) => y <= x || y < p as i64,
                        Mask::Bidirectional => true,
                        Mask::BidirectionalWindow(w) => (x - y).abs() <= w as i64,
                        Mask::Chunked(c) => y <= x && x / c as i64 == y / c as i64,
                        Mask::Strided { block, local, stride, shift } => {
                            let strided = (j / block + head * shift + 1).is_multiple_of(stride);
                            j <= i && (i / block - j / block < local || strided)
                        }
                    };
                    weights.push(if visible { score } else { f64::NEG_INFINITY });
                }
                let sink = a.sinks.map_or(f64::NEG_INFINITY, |sinks| sinks[head].into());
                let max = weights.iter().copied().fold(sink, f64::max);
                let weights: Vec<f64> = weights
                    .iter()
                    .map(|s| if *s == f64::NEG_INFINITY { 0.0 } else { (s - max).exp() })
                    .collect();
                let sum =
                    weights.iter().sum::<f64>() + if sink.is_finite() { (sink - max).exp() } else { 0.0 };
                for c in 0..value_dim {
                    let v = |j: usize| f64::from(value[((keys[0] + j) * num_kv_heads + kv) * value_dim + c]);
                    let total: f64 = weights.iter().enumerate().map(|(j, w)| w * v(j)).sum();
                    out.push(if sum > 0.0 { total / sum } else { 0.0 });
                }
            }
        }
    }
    out
}

fn compare(a: &Attention, query_offsets: &[usize], key_offsets: &[usize]) {
    let mut random = Random::new(17);
    let (queries, keys) = (*query_offsets.last().unwrap(), *key_offsets.last().unwrap());
    let mut make = |length: usize, factor: f32| -> Vec<f32> {
        random.values(length).iter().map(|x| x * factor).collect()
    };
    let query = make(queries * a.num_heads * a.head_dim, 3.0);
    let key = make(keys * a.num_kv_heads * a.head_dim, 2.0);
    let value = make(keys * a.num_kv_heads * a.value_dim, 1.0);
    let rounded = |x: &[f32]| -> Vec<f32> { x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect() };
    let exact = reference(a, &query, &key, &value, query_offsets, key_offsets);
    let narrow = reference(a, &rounded(&query), &rounded(&key), &rounded(&value), query_offsets, key_offsets);
    for_each_isa(|isa| {
        let mut out = vec![f32::NAN; exact.len()];
        // In bf16 the weights of the softmax are rounded too, to 8 bits.
        for (precision, expected, tolerance) in
            [(Precision::F32, &exact, 2e-6), (Precision::Bf16, &narrow, 4e-3)]
        {
            attention(a, &query, &key, &value, query_offsets, key_offsets, precision, &mut out);
            let what = format!("{isa} {precision:?} {:?} {query_offsets:?} {key_offsets:?}", a.mask);
            assert_close(&out, expected, 1.0, tolerance, &what);
        }
    });
}

fn plain(num_heads: usize, num_kv_heads: usize, head_dim: usize, value_dim: usize) -> Attention<'static> {
    Attention {
        num_heads,
        num_kv_heads,
        head_dim,
        value_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        softcap: None,
        sharpness: None,
        mask: Mask::Causal,
        bias: Bias::None,
        sinks: None,
    }
}

#[test]
fn masks_and_shapes_agree_with_the_definition() {
    let offsets = [0, 1, 1, 30, 130, 430];
    for mask in [
        Mask::Causal,
        Mask::CausalWindow(1),
        Mask::CausalWindow(100),
        Mask::Prefix(1),
        Mask::Prefix(40),
        Mask::Bidirectional,
        Mask::BidirectionalWindow(20),
        Mask::Chunked(64),
        Mask::Chunked(7),
        Mask::Strided { block: 16, local: 2, stride: 3, shift: 1 },
        Mask::Strided { block: 5, local: 1, stride: 4, shift: 0 },
    ] {
        compare(&Attention { mask, ..plain(2, 1, 16, 16) }, &offsets, &offsets);
    }
    for (num_heads, num_kv_heads, head_dim, value_dim) in
        [(1, 1, 1, 1), (2, 2, 8, 24), (4, 2, 33, 7), (3, 1, 80, 80), (2, 2, 64, 128), (1, 1, 48, 100)]
    {
        compare(&plain(num_heads, num_kv_heads, head_dim, value_dim), &[0, 70, 75], &[0, 70, 75]);
    }
}

/// Short samples whose keys are packed by their tasks, when there are enough of them, into memory that holds anything.
#[test]
fn many_short_samples_are_as_exact_as_few() {
    rayon::broadcast(|_| Scratch::take(1 << 18).as_mut_slice().fill(f32::NAN));
    let lengths = (0..70).map(|sample| if sample % 9 == 4 { 0 } else { 1 + sample * 7 % 40 });
    let offsets: Vec<usize> = [0]
        .into_iter()
        .chain(lengths.scan(0, |end, length| {
            Some({
                *end += length;
                *end
            })
        }))
        .collect();
    for (num_heads, num_kv_heads, head_dim, value_dim) in [(4, 2, 16, 16), (2, 2, 33, 7), (3, 3, 8, 24)] {
        for mask in [Mask::Causal, Mask::Bidirectional] {
            compare(
                &Attention { mask, ..plain(num_heads, num_kv_heads, head_dim, value_dim) },
                &offsets,
                &offsets,
            );
        }
    }
}

#[test]
fn cross_attention_has_its_own_keys() {
    let a = Attention { mask: Mask::Bidirectional, ..plain(2, 2, 16, 8) };
    compare(&a, &[0, 3, 10, 10, 90], &[0, 200, 201, 205, 305]);
    // The last sample has queries and no keys, and beyond its keys a window sees nothing: zeros.
    compare(&a, &[0, 3, 5], &[0, 4, 4]);
    compare(&Attention { mask: Mask::CausalWindow(5), ..a }, &[0, 300], &[0, 40]);
}

#[test]
fn biases_caps_and_sinks_agree_with_the_definition() {
    let offsets = [0, 150, 163, 400];
    let slopes = [0.5, 0.03];
    let sinks = [1.0, -2.0];
    let table = Random::new(5).values(2 * 61);
    let longest = offsets.windows(2).map(|rows| rows[1] - rows[0]).max().unwrap();
    let by_key = Random::new(6).values(2 * longest);
    for (bias, mask) in [
        (Bias::Alibi { slopes: &slopes, symmetric: false }, Mask::Causal),
        (Bias::Alibi { slopes: &slopes, symmetric: true }, Mask::Bidirectional),
        (Bias::Distance { table: &table, span: 61, first: -30 }, Mask::Bidirectional),
        (Bias::Distance { table: &table, span: 61, first: -60 }, Mask::Causal),
        (Bias::Key { table: &by_key, span: longest }, Mask::Causal),
    ] {
        for (softcap, sinks) in [(None, None), (Some(2.0), None), (Some(5.0), Some(&sinks[..]))] {
            compare(&Attention { bias, mask, softcap, sinks, ..plain(2, 1, 16, 16) }, &offsets, &offsets);
        }
    }
    let sharpness = Random::new(7).values(longest);
    let sharpness = Some(&sharpness[..]);
    compare(&Attention { sharpness, softcap: Some(2.0), ..plain(2, 1, 16, 16) }, &offsets, &offsets);
    // A sink alone: nothing is visible, the denominator is not zero.
    compare(
        &Attention { sinks: Some(&sinks), mask: Mask::Bidirectional, ..plain(2, 1, 16, 16) },
        &[0, 3],
        &[0, 0],
    );
}

#[test]
fn terms_by_distance_agree_with_the_definition() {
    let offsets = [0, 1, 1, 30, 130, 430];
    let (span, heads, head_dim) = (300, 2, 16);
    let rows = |seed| -> Vec<f32> {
        let values = Random::new(seed).values(200 * heads * head_dim);
        values.iter().map(|x| bf16::from_f32(*x).to_f32()).collect()
    };
    let (keys, queries) = (rows(8), rows(9));
    let distances = 1 - span..span;
    // A row for each distance up to some, and rows for several distances, some of which are left out.
    let clamped: Vec<u32> = distances.clone().map(|d: i32| d.clamp(-100, 99).abs_diff(-100)).collect();
    let shared: Vec<u32> = distances.map(|d| (d / 7).abs_diff(-43) * 2).collect();
    for row_of in [&clamped[..], &shared] {
        for (keys, queries) in
            [(Some(&keys[..]), None), (None, Some(&queries[..])), (Some(&keys), Some(&queries))]
        {
            for mask in [Mask::Bidirectional, Mask::BidirectionalWindow(40)] {
                let bias = Bias::Disentangled(Disentangled { keys, queries, row_of });
                compare(&Attention { mask, bias, ..plain(heads, heads, head_dim, 24) }, &offsets, &offsets);
            }
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    // Scores of 500 for the two keys at positions 3 and 200, of -500 for all others.
    let mut key = vec![-50.0; 300];
    (key[3], key[200]) = (50.0, 50.0);
    let value: Vec<f32> = (0..300).map(|j| j as f32).collect();
    let a = Attention { mask: Mask::Bidirectional, scale: 1.0, ..plain(1, 1, 1, 1) };
    for_each_isa(|isa| {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut out = [0.0; 70];
            attention(&a, &[10.0; 70], &key, &value, &[0, 70], &[0, 300], precision, &mut out);
            assert_eq!(out, [101.5; 70], "{isa} {precision:?}");
        }
    });
}
