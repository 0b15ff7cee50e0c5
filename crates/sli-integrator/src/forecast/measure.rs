//! Timing the kernels on this machine.

use std::ops::Range;
use std::time::{Duration, Instant};

use half::bf16;
use rayon::prelude::*;
use sli_kernels::{
    Activation, Attention, Format, Matrix, Precision, activate, add_rms_norm, attention, linear,
};

use super::rates::{ComputeRates, NARROW, WIDE};

/// Each kernel is repeated for about this long,
const REPEATING: Duration = Duration::from_millis(25);
/// in so many rounds through all of them.
const ROUNDS: usize = 3;
/// Rows of a wide matrix.
const ROWS: usize = WIDE[0];
/// Its columns.
const COLUMNS: usize = WIDE[1];
/// Rows and columns of 8-bit weights that share a scale.
const BLOCK: usize = 128;
/// Their scales.
const SCALES: [f32; ROWS / BLOCK * (COLUMNS / BLOCK)] = [0.01; ROWS / BLOCK * (COLUMNS / BLOCK)];
/// As many matrices in turn, so that each comes from memory as a layer's weights do, and not from a cache.
const MATRICES: usize = 4;
/// Rows of the other factor.
const TOKENS: [usize; 5] = [1, 8, 32, 128, 512];
/// Values between the products of an MLP, which the caches hold.
const ACTIVATED: usize = 1 << 17;
/// Tokens of a sample.
const LENGTHS: [usize; 3] = [8, 64, 256];

/// The rates, and the share of the processor that this program had while it took them, where the system tells.
pub(super) fn measure_compute(precision: Precision) -> (ComputeRates, Option<f64>) {
    let most = TOKENS[TOKENS.len() - 1];
    let weights: Vec<bf16> =
        (0..MATRICES * ROWS * COLUMNS).map(|i| bf16::from_f32((i % 251) as f32 * 0.001 - 0.125)).collect();
    let x: Vec<f32> = (0..most * COLUMNS).map(|i| (i % 127) as f32 * 0.01 - 0.6).collect();
    let round = || ComputeRates {
        products: rates(precision, &x, |part| Format::Bf16(&weights[part])),
        coded_products: rates(precision, &x, |part| Format::Fp8E4m3 {
            codes: &bytemuck::cast_slice(&weights)[part],
            scales: &SCALES,
            block_rows: BLOCK,
            block_columns: BLOCK,
        }),
        narrow_products: measure_narrow(precision, &x, &weights),
        attention: LENGTHS.map(|length| (length, measure_attention(precision, &x, length))).to_vec(),
        touched_floats: measure_norm(&x),
        activated_values: measure_activation(&x[..ACTIVATED]),
    };
    let (start, before) = (Instant::now(), processor_seconds());
    let rates = (1..ROUNDS).fold(round(), |rates, _| rates.fastest(round()));
    let available = start.elapsed().as_secs_f64() * rayon::current_num_threads() as f64;
    let used = before.zip(processor_seconds()).map(|(before, after)| after - before);
    (rates, used.map(|used| used / available))
}

/// Seconds that all threads of this process computed so far; `None` where the system does not tell.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may hold anything: the state, and eleven fields later the user's and the system's hundredths.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let hundredths = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((hundredths(11)? + hundredths(12)?) / 100.0)
}

/// Operations per second of products with weights in a format, given which of all weights a matrix has, by rows of x.
fn rates<'a>(
    precision: Precision,
    x: &[f32],
    format: impl Fn(Range<usize>) -> Format<'a>,
) -> Vec<(usize, f64)> {
    let mut y = vec![0.0; x.len() / COLUMNS * ROWS];
    let rate = |tokens| {
        let mut turn = 0;
        let seconds = seconds_each(|| {
            let format = format(turn * ROWS * COLUMNS..(turn + 1) * ROWS * COLUMNS);
            turn = (turn + 1) % MATRICES;
            let (matrix, x) = (Matrix { rows: ROWS, columns: COLUMNS, format }, &x[..tokens * COLUMNS]);
            linear(x.into(), &matrix, None, precision, &mut y[..tokens * ROWS]);
        });
        (tokens, 2.0 * (tokens * ROWS * COLUMNS) as f64 / seconds)
    };
    TOKENS.map(rate).to_vec()
}

/// Many rows with a narrow matrix, on each thread at once, as chunks side by side are.
fn measure_narrow(precision: Precision, x: &[f32], weights: &[bf16]) -> f64 {
    let [rows, columns] = NARROW;
    let (tokens, threads) = (TOKENS[TOKENS.len() - 1], rayon::current_num_threads());
    let matrix = Matrix { rows, columns, format: Format::Bf16(&weights[..rows * columns]) };
    let (x, mut y) = (&x[..tokens * columns], vec![0.0; threads * tokens * rows]);
    let seconds = seconds_each(|| {
        y.par_chunks_mut(tokens * rows).for_each(|y| linear(x.into(), &matrix, None, precision, y));
    });
    2.0 * (threads * tokens * rows * columns) as f64 / seconds
}

/// Samples of `length` tokens, 1024 tokens together, 16 heads of 64.
fn measure_attention(precision: Precision, x: &[f32], length: usize) -> f64 {
    let (tokens, heads, head_dim) = (1024, 16, 64);
    let shape = Attention::causal([heads, heads], [head_dim, head_dim], 0.125);
    let rows = &x[..tokens * heads * head_dim];
    let mut out = vec![0.0; rows.len()];
    let offsets: Vec<usize> = (0..=tokens).step_by(length).collect();
    let seconds =
        seconds_each(|| attention(&shape, rows, rows, rows, &offsets, &offsets, precision, &mut out));
    let pairs = tokens / length * (length * (length + 1) / 2);
    (2 * pairs * heads * 2 * head_dim) as f64 / seconds
}

fn measure_norm(x: &[f32]) -> f64 {
    let (mut residual, mut y) = (x.to_vec(), vec![0.0; x.len()]);
    let seconds = seconds_each(|| add_rms_norm(&mut residual, x, COLUMNS, None, 1e-5, &mut y));
    // The residual is read and written, the branch read, the normed written.
    3.0 * x.len() as f64 / seconds
}

fn measure_activation(x: &[f32]) -> f64 {
    let mut y = x.to_vec();
    let seconds = seconds_each(|| {
        // Applied to its own results again and again, it would soon have none but zeros.
        y.copy_from_slice(x);
        activate(Activation::Gelu, &mut y);
    });
    x.len() as f64 / seconds
}

/// The median time of a repeated call.
fn seconds_each(mut call: impl FnMut()) -> f64 {
    call();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 2 || start.elapsed() < REPEATING {
        let start = Instant::now();
        call();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2].max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_processor_s_time_is_counted() {
        let (start, before) = (Instant::now(), processor_seconds().unwrap());
        let mut sum = 0.0f64;
        while processor_seconds().unwrap() < before + 0.05 {
            sum = std::hint::black_box(sum + start.elapsed().as_secs_f64());
            assert!(start.elapsed() < Duration::from_secs(60), "no time passes");
        }
    }
}
