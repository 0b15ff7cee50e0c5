//! Rates of the kernels, and their share of the peak of the arithmetic units measured in the same run.
//!
//! `cargo bench -p sli-kernels [-- WORD...]` runs the lines that contain one of the words; `RAYON_NUM_THREADS` and
//! `SLI_ISA` are honoured. Each line is the best of half a second.
#![allow(clippy::print_stdout)]

mod peak;

use std::hint::black_box;
use std::time::{Duration, Instant};

use half::bf16;
use sli_kernels::*;

/// Seconds of the fastest of the calls that fit into `budget`, after one that warms up.
fn fastest(budget: Duration, mut call: impl FnMut()) -> f64 {
    call();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < budget {
        let begin = Instant::now();
        call();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

struct Bench {
    words: Vec<String>,
}

impl Bench {
    /// Runs a line and prints its time, its rate and its share of the peak.
    fn line(&self, name: &str, flops: usize, precision: Precision, call: impl FnMut()) {
        if !self.words.is_empty() && !self.words.iter().any(|word| name.contains(word.as_str())) {
            return;
        }
        // Beside each line, since the clock and the other work of a machine change.
        let peak = match precision {
            Precision::F32 => peak::f32(isa()),
            Precision::Bf16 => peak::bf16(isa()).or_else(|| peak::f32(isa())),
        };
        let seconds = fastest(Duration::from_millis(500), call);
        let rate = flops as f64 / seconds / 1e9;
        let share = peak.map_or(String::new(), |peak| format!("{:5.1} % of {peak:.0}", 100.0 * rate / peak));
        println!("{name:44} {:9.3} ms {rate:8.1} GFLOP/s {share}", seconds * 1e3);
    }

    /// As [`Self::line`], for kernels that are bound by memory: `bytes` read and written.
    fn traffic(&self, name: &str, bytes: usize, call: impl FnMut()) {
        if !self.words.is_empty() && !self.words.iter().any(|word| name.contains(word.as_str())) {
            return;
        }
        let seconds = fastest(Duration::from_millis(300), call);
        println!("{name:44} {:9.3} ms {:8.1} GB/s", seconds * 1e3, bytes as f64 / seconds / 1e9);
    }
}

/// Reproducible values in -1..1.
fn values(length: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / 2f32.powi(31) - 1.0
    };
    (0..length).map(|_| next()).collect()
}

fn linears(bench: &Bench) {
    for (n, k) in [(4096, 4096), (11008, 4096), (4096, 11008), (2048, 2048)] {
        let weights = values(n * k);
        let brain: Vec<bf16> = weights.iter().map(|&w| bf16::from_f32(w)).collect();
        let codes: Vec<u8> = (0..n * k).map(|i| (i * 37 % 120) as u8).collect();
        let scales = vec![0.01; n * k / 32];
        let formats = [
            ("bf16", Precision::Bf16, Format::Bf16(&brain)),
            ("bf16 exact", Precision::F32, Format::Bf16(&brain)),
            ("f32", Precision::F32, Format::F32(&weights)),
            (
                "fp8",
                Precision::Bf16,
                Format::Fp8E4m3 {
                    codes: &codes,
                    scales: &scales[..n.div_ceil(128) * k.div_ceil(128)],
                    block_rows: 128,
                    block_columns: 128,
                },
            ),
            (
                "int4",
                Precision::Bf16,
                Format::Int4 { codes: &codes[..n * k / 2], scales: &scales, zero_points: None, group: 32 },
            ),
        ];
        for m in [1, 4, 16, 64, 256, 1024] {
            let x = values(m * k);
            let mut y = vec![0.0; m * n];
            for (name, precision, format) in formats {
                let matrix = Matrix { rows: n, columns: k, format };
                bench.line(&format!("linear {name} {m} x {n} x {k}"), 2 * m * n * k, precision, || {
                    linear(Activations::F32(&x), &matrix, None, precision, &mut y);
                });
            }
        }
    }
}

fn attentions(bench: &Bench) {
    for (tokens, num_heads, num_kv_heads, head_dim) in
        [(512, 16, 16, 64), (2048, 16, 16, 64), (512, 16, 4, 128), (2048, 16, 4, 128)]
    {
        let query = values(tokens * num_heads * head_dim);
        let key = values(tokens * num_kv_heads * head_dim);
        let mut out = vec![0.0; query.len()];
        for (mask, precision) in [
            (Mask::Causal, Precision::Bf16),
            (Mask::Bidirectional, Precision::Bf16),
            (Mask::Causal, Precision::F32),
            (Mask::Bidirectional, Precision::F32),
        ] {
            let attended = if mask == Mask::Causal { tokens * tokens / 2 } else { tokens * tokens };
            let a = Attention {
                num_heads,
                num_kv_heads,
                head_dim,
                value_dim: head_dim,
                scale: 1.0 / (head_dim as f32).sqrt(),
                softcap: None,
                mask,
                bias: Bias::None,
                sinks: None,
            };
            let name = format!("attention {precision:?} {mask:?} {tokens} x {num_heads} x {head_dim}");
            bench.line(&name, 4 * attended * num_heads * head_dim, precision, || {
                attention(&a, &query, &key, &key, &[0, tokens], &[0, tokens], precision, &mut out);
            });
        }
    }
}

fn elementwise(bench: &Bench) {
    let (rows, width) = (1024, 4096);
    let (x, weight) = (values(rows * width), values(width));
    let (mut y, mut z) = (vec![0.0; rows * width], x.clone());
    let bytes = 4 * rows * width;
    bench.traffic("rms_norm 1024 x 4096", 2 * bytes, || rms_norm(&x, width, Some(&weight), 1e-6, &mut y));
    bench.traffic("layer_norm 1024 x 4096", 2 * bytes, || {
        layer_norm(&x, width, Some(&weight), Some(&weight), 1e-6, &mut y);
    });
    bench.traffic("add_rms_norm 1024 x 4096", 4 * bytes, || {
        add_rms_norm(&mut z, &x, width, Some(&weight), 1e-6, &mut y);
    });
    for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
        bench.traffic(&format!("gated {activation:?} 1024 x 4096"), 3 * bytes, || {
            gated_activation(activation, &x, &x, &mut y);
        });
    }
    bench.traffic("softmax 1024 x 4096", 2 * bytes, || softmax_rows(&mut y, width));
    let table = values(rows * 64);
    bench.traffic("rope 1024 x 32 x 128", 2 * bytes, || rope(&mut y, 32, 128, 128, &table, &table));
    let logits = values(64 * 32_000);
    bench.traffic("log-sum-exp and top 20 of 64 x 32000", 4 * logits.len(), || {
        let mut summaries = vec![RowSummary::new(20); 64];
        update_rows(&mut summaries, &logits, 32_000, 0);
        black_box(&summaries);
    });
    let mut moments = ChannelMoments::new(width);
    bench.traffic("moments 1024 x 4096", bytes, || moments.add_rows(&x));
    let taps = values(4 * width);
    bench.traffic("conv 1024 x 4096 x 4", 2 * bytes, || {
        causal_conv1d(&x, width, &taps, 4, None, &[0, rows], &mut y);
    });
    let (tokens, channels, state) = (512, 2048, 16);
    let inputs = values(tokens * channels);
    let delta: Vec<f32> = inputs.iter().map(|x| x.abs()).collect();
    let a: Vec<f32> = values(channels * state).iter().map(|x| -x.abs()).collect();
    let (b, d) = (values(tokens * state), values(channels));
    let scan = SelectiveScan { channels, state, a: &a, d: &d };
    bench.traffic("selective_scan 512 x 2048 x 16", 12 * tokens * channels, || {
        selective_scan(&scan, &inputs, &delta, &b, &b, &[0, tokens], &mut y[..tokens * channels]);
    });
}

fn main() {
    // `cargo bench` passes `--bench`.
    let words = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match requested_isa() {
        Ok(isa) => println!("instruction set {isa}, {} threads", rayon::current_num_threads()),
        Err(error) => println!("{error}; using {}", isa()),
    }
    println!("shares are of the rate of products in registers alone, measured beside each line");
    let bench = Bench { words };
    linears(&bench);
    attentions(&bench);
    elementwise(&bench);
}
