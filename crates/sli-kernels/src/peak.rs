//! The rate of multiply-adds on registers alone: what no kernel can exceed.

use std::time::Instant;

use crate::isa::Isa;

/// Instructions of a round: enough independent sums to hide the latency of one; with the factor they fit in 16 registers.
const SUMS: usize = 12;

/// GFLOP/s of f32 fused multiply-adds on this thread, over so many rounds of 12 instructions; none where this crate does
/// not know how to write them. `isa` must be available.
pub fn f32(isa: Isa, rounds: usize) -> Option<f64> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction set is available.
        Isa::Avx512Bf16 | Isa::Avx512 => Some(rate(32, rounds, || unsafe { x86::f32_by_16(rounds) })),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => Some(rate(16, rounds, || unsafe { x86::f32_by_8(rounds) })),
        _ => None,
    }
}

/// As [`f32()`], of dot products of pairs of bf16, where the instruction set has them.
pub fn bf16(isa: Isa, rounds: usize) -> Option<f64> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction set is available.
        Isa::Avx512Bf16 => Some(rate(64, rounds, || unsafe { x86::bf16_by_32(rounds) })),
        _ => None,
    }
}

/// GFLOP/s of `rounds * SUMS` instructions of `flops` each.
fn rate(flops: usize, rounds: usize, work: impl Fn() -> f32) -> f64 {
    let start = Instant::now();
    std::hint::black_box(work());
    (flops * SUMS * rounds) as f64 / start.elapsed().as_secs_f64() / 1e9
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;
    use std::mem::transmute;

    /// So many times a step of each of [`SUMS`](super::SUMS) variables, and the sum of what `finish` makes of them.
    /// Variables: an array would be moved about.
    macro_rules! rounds {
        ($rounds:ident, $start:expr, $sum:ident => $step:expr, $finish:expr) => {
            rounds!($rounds, $start, $sum => $step, $finish, a b c d e f g h i j k l)
        };
        ($rounds:ident, $start:expr, $sum:ident => $step:expr, $finish:expr, $($name:ident)*) => {{
            $(let mut $name = $start;)*
            for _ in 0..$rounds {
                $($name = { let $sum = $name; $step };)*
            }
            0.0 $(+ $finish($name))*
        }};
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_by_16(rounds: usize) -> f32 {
        let x = _mm512_set1_ps(black_box(0.5));
        rounds!(rounds, x, sum => _mm512_fmadd_ps(sum, x, x), _mm512_reduce_add_ps)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_by_8(rounds: usize) -> f32 {
        let x = _mm256_set1_ps(black_box(0.5));
        rounds!(rounds, x, sum => _mm256_fmadd_ps(sum, x, x), _mm256_cvtss_f32)
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_by_32(rounds: usize) -> f32 {
        let x = _mm512_set1_ps(black_box(0.5));
        // SAFETY: both types are 512 bits, and any bits are bf16.
        let pairs = unsafe { transmute::<__m512, __m512bh>(x) };
        rounds!(rounds, x, sum => _mm512_dpbf16_ps(sum, pairs, pairs), _mm512_reduce_add_ps)
    }
}
