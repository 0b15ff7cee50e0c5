//! The rate of multiply-adds on registers alone, over all threads: what no kernel can exceed.

use std::hint::black_box;
use std::time::Duration;

use sli_kernels::Isa;

/// Enough independent sums to hide the latency of an instruction; with the factor they fit in 16 registers.
const SUMS: usize = 12;
const ROUNDS: usize = 1_000_000;

/// GFLOP/s of f32 fused multiply-adds, where this program knows how to write them.
pub(crate) fn f32(isa: Isa) -> Option<f64> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction set in use is available.
        Isa::Avx512Bf16 | Isa::Avx512 => Some(rate(32, || unsafe { x86::f32_by_16() })),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => Some(rate(16, || unsafe { x86::f32_by_8() })),
        _ => None,
    }
}

/// GFLOP/s of bf16 dot products, where the machine has them.
pub(crate) fn bf16(isa: Isa) -> Option<f64> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction set in use is available.
        Isa::Avx512Bf16 => Some(rate(64, || unsafe { x86::bf16_by_32() })),
        _ => None,
    }
}

/// The rate of a loop of `ROUNDS * SUMS` instructions of `flops` each, run by every thread at once.
fn rate(flops: usize, work: impl Fn() -> f32 + Sync) -> f64 {
    let threads = rayon::current_num_threads();
    let seconds = crate::fastest(Duration::from_millis(100), || {
        rayon::broadcast(|_| black_box(work()));
    });
    (flops * SUMS * ROUNDS * threads) as f64 / seconds / 1e9
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;
    use std::mem::transmute;

    use super::ROUNDS;

    /// `ROUNDS` times a step of each of [`SUMS`](super::SUMS) variables, and the sum of what `finish` makes of them.
    /// Variables: an array would be moved about.
    macro_rules! rounds {
        ($start:expr, $sum:ident => $step:expr, $finish:expr) => {
            rounds!($start, $sum => $step, $finish, a b c d e f g h i j k l)
        };
        ($start:expr, $sum:ident => $step:expr, $finish:expr, $($name:ident)*) => {{
            $(let mut $name = $start;)*
            for _ in 0..ROUNDS {
                $($name = { let $sum = $name; $step };)*
            }
            0.0 $(+ $finish($name))*
        }};
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_by_16() -> f32 {
        let x = _mm512_set1_ps(black_box(0.5));
        rounds!(x, sum => _mm512_fmadd_ps(sum, x, x), _mm512_reduce_add_ps)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_by_8() -> f32 {
        let x = _mm256_set1_ps(black_box(0.5));
        rounds!(x, sum => _mm256_fmadd_ps(sum, x, x), _mm256_cvtss_f32)
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_by_32() -> f32 {
        let x = _mm512_set1_ps(black_box(0.5));
        // SAFETY: both types are 512 bits, and any bits are bf16.
        let pairs = unsafe { transmute::<__m512, __m512bh>(x) };
        rounds!(x, sum => _mm512_dpbf16_ps(sum, pairs, pairs), _mm512_reduce_add_ps)
    }
}
