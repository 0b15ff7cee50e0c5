//! Choice of the instruction set, once per process, and the way into code compiled for it.

use std::fmt;
use std::sync::OnceLock;

use crate::peak;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Portable, Simd};

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512 (F, BW, DQ, VL) with the bf16 dot product.
    Avx512Bf16,
    /// AVX-512 (F, BW, DQ, VL).
    Avx512,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// 64-bit Arm, whose baseline has NEON and fused multiply-add.
    Neon,
    /// Whatever the compiler makes of plain arrays for the baseline of the target.
    Portable,
}

/// `SLI_ISA` asks for something that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsaError {
    /// The value is not the name of an instruction set.
    Unknown(String),
    /// This machine lacks the instruction set.
    Unavailable(Isa),
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(value) => write!(f, "SLI_ISA is '{value}', expected one of ")?,
            Self::Unavailable(isa) => write!(f, "SLI_ISA asks for {isa}, this machine has ")?,
        }
        let listed: &[Isa] = if matches!(self, Self::Unknown(_)) { &Isa::ALL } else { available() };
        f.write_str(&listed.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "))
    }
}

impl std::error::Error for IsaError {}

impl Isa {
    /// Every instruction set, the one with more instructions first.
    pub const ALL: [Isa; 5] = [Isa::Avx512Bf16, Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// The name that `SLI_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn detected(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match self {
            Isa::Avx512Bf16 => avx512 && is_x86_feature_detected!("avx512bf16"),
            Isa::Avx512 => avx512,
            Isa::Avx2 => avx2,
            Isa::Neon => false,
            Isa::Portable => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detected(self) -> bool {
        match self {
            Isa::Neon => cfg!(target_arch = "aarch64"),
            Isa::Portable => true,
            _ => false,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The instruction sets of this machine, the fastest first.
pub fn available() -> &'static [Isa] {
    static AVAILABLE: OnceLock<Vec<Isa>> = OnceLock::new();
    AVAILABLE.get_or_init(|| {
        let detected = Isa::ALL.into_iter().filter(|isa| isa.detected()).collect();
        fastest_first(detected, products_of_bf16_are_fast)
    })
}

/// Puts products of bf16, which all sets that have them begin with, after AVX-512 without them where they are slow.
fn fastest_first(mut sets: Vec<Isa>, products_are_fast: impl FnOnce() -> bool) -> Vec<Isa> {
    if sets.first() == Some(&Isa::Avx512Bf16) && !products_are_fast() {
        sets.swap(0, 1);
    }
    sets
}

/// Whether dot products of bf16 do more than fused multiply-adds of f32. They do nearly twice as much on an AMD of Zen 5, and
/// half as much on an Intel of Emerald Rapids (docs/kernels.md). No bit of CPUID tells.
fn products_of_bf16_are_fast() -> bool {
    /// A few microseconds a time, the best of some: far more than an interruption can turn around.
    const ROUNDS: usize = 2000;
    const TIMES: usize = 8;
    let best = |rate: fn(Isa, usize) -> Option<f64>| {
        (0..TIMES).filter_map(|_| rate(Isa::Avx512Bf16, ROUNDS)).fold(0.0, f64::max)
    };
    best(peak::bf16) > best(peak::f32)
}

/// What `SLI_ISA` asks for, or the best of this machine where it is not set.
///
/// # Errors
/// The variable is set to an unknown name or to an instruction set that this machine lacks. The kernels then use
/// the best one there is; a program reports the error before it starts work.
pub fn requested_isa() -> Result<Isa, IsaError> {
    match std::env::var_os("SLI_ISA") {
        None => Ok(available()[0]),
        Some(value) => parse(&value.to_string_lossy()),
    }
}

fn parse(value: &str) -> Result<Isa, IsaError> {
    let isa =
        Isa::ALL.into_iter().find(|isa| isa.name() == value).ok_or(IsaError::Unknown(value.to_owned()))?;
    if available().contains(&isa) { Ok(isa) } else { Err(IsaError::Unavailable(isa)) }
}

/// The instruction set that the kernels use, chosen at the first call: `SLI_ISA` where it is valid, otherwise the
/// best of this machine. See [`requested_isa`] for the error that an invalid `SLI_ISA` deserves.
pub fn isa() -> Isa {
    #[cfg(test)]
    if let Some(isa) = tests::OVERRIDE.get() {
        return isa;
    }
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| requested_isa().unwrap_or(available()[0]))
}

/// Work that is compiled once for each instruction set.
pub(crate) trait Kernel {
    type Output;

    /// Implementations are `#[inline(always)]`, as is everything below them, so that all of it is compiled with the
    /// features of the instruction set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs a kernel on `isa`, which must be one of [`available`], as [`isa`] always is.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn avx512<K: Kernel>(kernel: K, simd: Avx512) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2<K: Kernel>(kernel: K, simd: Avx2) -> K::Output {
            kernel.run(simd)
        }
        match isa {
            // SAFETY: `isa` is available, and `detected` looked for each of these features.
            Isa::Avx512Bf16 | Isa::Avx512 => return unsafe { avx512(kernel, Avx512::new()) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2(kernel, Avx2::new()) },
            Isa::Neon | Isa::Portable => {}
        }
    }
    debug_assert!(matches!(isa, Isa::Neon | Isa::Portable));
    kernel.run(Portable)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        pub(super) static OVERRIDE: Cell<Option<Isa>> = const { Cell::new(None) };
    }

    /// Runs `test` once for each instruction set of this machine; the kernels called from it use that one.
    pub(crate) fn for_each_isa(test: impl Fn(Isa)) {
        for &isa in available() {
            OVERRIDE.set(Some(isa));
            test(isa);
        }
        OVERRIDE.set(None);
    }

    #[test]
    fn slow_products_of_bf16_come_second() {
        let with = || vec![Isa::Avx512Bf16, Isa::Avx512, Isa::Avx2, Isa::Portable];
        assert_eq!(fastest_first(with(), || true), with());
        assert_eq!(fastest_first(with(), || false), [Isa::Avx512, Isa::Avx512Bf16, Isa::Avx2, Isa::Portable]);
        let without = || vec![Isa::Avx512, Isa::Avx2, Isa::Portable];
        assert_eq!(fastest_first(without(), || panic!("nothing to measure")), without());
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(parse("portable"), Ok(Isa::Portable));
        let unknown = parse("sse").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "SLI_ISA is 'sse', expected one of avx512bf16, avx512, avx2, neon, portable"
        );
        let missing = Isa::ALL.into_iter().find(|isa| !available().contains(isa)).unwrap();
        assert_eq!(parse(missing.name()), Err(IsaError::Unavailable(missing)));
        assert!(parse(missing.name()).unwrap_err().to_string().contains("portable"));
    }
}
