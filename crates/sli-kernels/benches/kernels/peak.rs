//! The rate of multiply-adds on registers alone, over all threads.

use std::time::{Duration, Instant};

use sli_kernels::{Precision, isa, peak};

/// A few milliseconds.
const ROUNDS: usize = 1_000_000;
const BUDGET: Duration = Duration::from_millis(100);

/// GFLOP/s of products of such inputs, where this program can measure them: of what the instruction set in use multiplies
/// them with.
pub(crate) fn peak(precision: Precision) -> Option<f64> {
    let one_thread = || match precision {
        Precision::Bf16 => peak::bf16(isa(), ROUNDS).or_else(|| peak::f32(isa(), ROUNDS)),
        Precision::F32 => peak::f32(isa(), ROUNDS),
    };
    let (start, mut best) = (Instant::now(), 0.0_f64);
    while start.elapsed() < BUDGET {
        let rate: f64 = rayon::broadcast(|_| one_thread()).into_iter().sum::<Option<f64>>()?;
        best = best.max(rate);
    }
    Some(best)
}
