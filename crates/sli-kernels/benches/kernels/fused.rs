//! Kernels that are bound by memory: norms, activations, rotary positions, softmax, summaries and scans.

use std::hint::black_box;

use sli_kernels::*;

use crate::{Case, Work, values};

/// Rows and columns of activations, larger than the caches.
const ROWS: usize = 4096;
const WIDTH: usize = 4096;
const VALUES: usize = ROWS * WIDTH;

/// A case that reads and writes so many f32.
fn case(name: impl Into<String>, traffic: usize, prepare: impl Fn() -> Box<dyn FnMut()> + 'static) -> Case {
    Case::new(name.into(), Work::Bytes(4 * traffic), prepare)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(format!("rms_norm {ROWS} {WIDTH}"), 2 * VALUES, || {
            let (x, weight, mut y) = (values(VALUES), values(WIDTH), vec![0.0; VALUES]);
            Box::new(move || rms_norm(&x, WIDTH, Some(&weight), 1e-6, &mut y))
        }),
        case(format!("layer_norm {ROWS} {WIDTH}"), 2 * VALUES, || {
            let (x, weight, mut y) = (values(VALUES), values(WIDTH), vec![0.0; VALUES]);
            Box::new(move || layer_norm(&x, WIDTH, Some(&weight), Some(&weight), 1e-6, &mut y))
        }),
        case(format!("add_rms_norm {ROWS} {WIDTH}"), 4 * VALUES, || {
            let (x, weight, mut y) = (values(VALUES), values(WIDTH), vec![0.0; VALUES]);
            let mut residual = values(VALUES);
            Box::new(move || add_rms_norm(&mut residual, &x, WIDTH, Some(&weight), 1e-6, &mut y))
        }),
        case(format!("rope {ROWS} 32 128"), 2 * VALUES, || {
            let (table, mut x) = (values(ROWS * 64), values(VALUES));
            Box::new(move || rope(&mut x, 32, 128, 128, &table, &table))
        }),
        case(format!("softmax {ROWS} {WIDTH}"), 2 * VALUES, || {
            let mut x = values(VALUES);
            Box::new(move || softmax_rows(&mut x, WIDTH))
        }),
        case("logsumexp_topk 128 128000 20", 128 * 128_000, || {
            let logits = values(128 * 128_000);
            Box::new(move || {
                let mut rows = vec![RowSummary::new(20); 128];
                update_rows(&mut rows, &logits, 128_000, 0);
                black_box(&rows);
            })
        }),
        case(format!("moments {ROWS} {WIDTH}"), VALUES, || {
            let (x, mut moments) = (values(VALUES), ChannelMoments::new(WIDTH));
            Box::new(move || moments.add_rows(&x))
        }),
        case(format!("conv {ROWS} {WIDTH} 4"), 2 * VALUES, || {
            let (x, taps, mut y) = (values(VALUES), values(4 * WIDTH), vec![0.0; VALUES]);
            Box::new(move || causal_conv1d(&x, WIDTH, &taps, 4, None, &[0, ROWS], &mut y))
        }),
        case("head_scan 512 80 64 128", 2 * 512 * 80 * 64, || {
            let (tokens, heads, head_dim, state) = (512, 80, 64, 128);
            let input = values(tokens * (heads * head_dim + 2 * state));
            let step: Vec<f32> = values(tokens * heads).iter().map(|x| x.abs()).collect();
            let a: Vec<f32> = values(heads).iter().map(|x| -x.abs()).collect();
            let mut y = vec![0.0; tokens * heads * head_dim];
            Box::new(move || {
                let scan = HeadScan { head_dim, num_groups: 1, state, a: &a, d: &a };
                head_scan(&scan, &input, &step, &[0, tokens], &mut y);
            })
        }),
        case("wkv 512 4096", 3 * 512 * 4096, || {
            let (tokens, channels) = (512, 4096);
            let (k, v, bonus) = (values(tokens * channels), values(tokens * channels), values(channels));
            let decay: Vec<f32> = bonus.iter().map(|x| x.abs()).collect();
            let mut y = vec![0.0; tokens * channels];
            Box::new(move || wkv(&decay, &bonus, &k, &v, &[0, tokens], &mut y))
        }),
        case("selective_scan 512 2048 16", 3 * 512 * 2048, || {
            let (tokens, channels, state) = (512, 2048, 16);
            let x = values(tokens * channels);
            let delta: Vec<f32> = x.iter().map(|x| x.abs()).collect();
            let a: Vec<f32> = values(channels * state).iter().map(|x| -x.abs()).collect();
            let (b, d) = (values(tokens * state), values(channels));
            let mut y = vec![0.0; tokens * channels];
            Box::new(move || {
                let scan = SelectiveScan { channels, state, a: &a, d: &d };
                selective_scan(&scan, &x, &delta, &b, &b, &[0, tokens], &mut y);
            })
        }),
    ];
    for (name, activation) in
        [("silu", Activation::Silu), ("gelu", Activation::Gelu), ("gelu_tanh", Activation::GeluTanh)]
    {
        cases.push(case(format!("gated {name} {ROWS} {WIDTH}"), 3 * VALUES, move || {
            let (gate, up, mut y) = (values(VALUES), values(VALUES), vec![0.0; VALUES]);
            Box::new(move || {
                // The kernel works in place, and its own results as the next inputs would soon be zero.
                y.copy_from_slice(&gate);
                gated_activation(activation, &mut y, &up);
            })
        }));
    }
    cases
}
