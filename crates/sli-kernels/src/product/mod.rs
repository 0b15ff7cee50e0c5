//! What matrix products and attention share: how inputs are rounded, how they are laid out, and the inner tile.
//!
//! Inputs travel in *units* of 32 bits: one f32, or a pair of bf16 that follow one another along the summed
//! dimension. Both operands are laid out in units, zero-padded to whole *lines* of 16 units.

mod dot;
mod pack;
mod tile;

pub(crate) use dot::{Dot, dot_rows};
pub(crate) use pack::{Weights, pack_activations, pack_rows, prepare_row, runs_are_lines};
pub(crate) use tile::{Ahead, Combine, Layout, Lines, Tile, prefetch};

use half::bf16;

use crate::formats::Encoding;
use crate::isa::{Isa, Kernel, dispatch};
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx512;
use crate::simd::Simd;

/// How the inputs of a matrix product are rounded. Accumulation is always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Activations stay f32, weights are widened exactly.
    F32,
    /// Both are rounded to bf16, to nearest with ties to even. Where the instruction set has no products of bf16, weights are
    /// widened exactly for up to eight rows of activations: rounding them would take longer than their products.
    Bf16,
}

/// Units of a line.
pub(crate) const LINE: usize = 16;
/// Rows of a packed group of weights.
pub(crate) const GROUP: usize = 24;

/// The arithmetic of a product on one instruction set.
pub(crate) trait Arithmetic: Copy + Send + Sync {
    type S: Simd;
    /// What 16 codes stand for.
    type Table: Copy;

    /// Values of a unit.
    const VALUES: usize;

    fn simd(self) -> Self::S;

    /// `sum + x * w`, over all values of each lane's unit.
    fn multiply_add(self, sum: F<Self>, x: F<Self>, w: F<Self>) -> F<Self>;

    /// A vector of units from `LANES * VALUES` consecutive values.
    /// # Safety
    /// They can be read at `p`.
    unsafe fn load(self, p: *const f32) -> F<Self>;

    /// As [`Self::load`], from bf16.
    /// # Safety
    /// `LANES * VALUES` values can be read at `p`.
    unsafe fn load_bf16(self, p: *const bf16) -> F<Self>;

    /// Units of `LANES * VALUES` values, of which `first` holds the first `LANES`; `second` counts where there are more.
    fn round(self, first: F<Self>, second: F<Self>) -> F<Self>;

    /// The inputs that 16 codes stand for: `(palette[code] - zero_point) * scale`, with (scale, zero point) of the first
    /// and the second 16 columns of a line, which may differ where a unit holds more than one value.
    fn table(self, palette: &[f32; 16], halves: [(f32, f32); 2]) -> Self::Table;

    /// Units of `LANES * VALUES` codes of 4 bits, the even ones in the low half of each byte.
    /// # Safety
    /// The bytes can be read at `p`.
    unsafe fn look_up(self, table: Self::Table, p: *const u8) -> F<Self>;

    /// A unit for each lane, from `VALUES` rows of `LANES` values that follow one another along the summed dimension.
    /// # Safety
    /// The rows can be read at `p`, `p + stride`, ...
    unsafe fn load_rows(self, p: *const f32, stride: usize) -> F<Self>;
}

/// The vector type of an arithmetic.
pub(crate) type F<A> = <<A as Arithmetic>::S as Simd>::F;

/// A value for each unit: f32, or what bf16 holds of it where the hardware has no product of bf16.
#[derive(Clone, Copy)]
pub(crate) struct Single<S, const ROUNDED: bool>(S);

/// `(palette - zero_point) * scale`
#[inline(always)]
fn affine<S: Simd>(s: S, palette: &[f32], (scale, zero_point): (f32, f32)) -> S::F {
    s.mul(s.sub(s.load(palette), s.splat(zero_point)), s.splat(scale))
}

/// Pairs of bf16 for `vdpbf16ps`.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Pairs(Avx512);

impl<S: Simd, const ROUNDED: bool> Arithmetic for Single<S, ROUNDED> {
    type S = S;
    type Table = S::Table;
    const VALUES: usize = 1;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, sum: S::F, x: S::F, w: S::F) -> S::F {
        self.0.mul_add(x, w, sum)
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> S::F {
        // SAFETY: the caller vouches for the values.
        let values = unsafe { self.0.load_at(p) };
        self.round(values, values)
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> S::F {
        // SAFETY: the caller vouches for the values.
        unsafe { self.0.load_bf16(p) }
    }

    #[inline(always)]
    fn round(self, first: S::F, _second: S::F) -> S::F {
        if ROUNDED { self.0.round_bf16(first) } else { first }
    }

    #[inline(always)]
    fn table(self, palette: &[f32; 16], [first, _]: [(f32, f32); 2]) -> S::Table {
        let mut table = self.0.table();
        for (part, palette) in table.as_mut().iter_mut().zip(palette.chunks_exact(S::LANES)) {
            let values = affine(self.0, palette, first);
            *part = self.round(values, values);
        }
        table
    }

    #[inline(always)]
    unsafe fn look_up(self, table: S::Table, p: *const u8) -> S::F {
        // SAFETY: the caller vouches for the bytes.
        unsafe { self.0.look_up(table, p) }
    }

    #[inline(always)]
    unsafe fn load_rows(self, p: *const f32, _stride: usize) -> S::F {
        // SAFETY: the caller vouches for the values.
        unsafe { self.load(p) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Arithmetic for Pairs {
    type S = Avx512;
    /// Two tables of 16 bf16.
    type Table = F<Self>;
    const VALUES: usize = 2;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, sum: F<Self>, x: F<Self>, w: F<Self>) -> F<Self> {
        // SAFETY: a `Pairs` exists only where the machine has AVX512-BF16.
        unsafe { x86::multiply_add(sum, x, w) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> F<Self> {
        // SAFETY: the caller vouches for 32 values at `p`, the type for AVX512-BF16.
        unsafe { x86::round_pairs(self.0.load_at(p), self.0.load_at(p.add(16))) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> F<Self> {
        // SAFETY: the caller vouches for 32 values at `p`, 64 bytes.
        unsafe { self.0.load_at(p.cast()) }
    }

    #[inline(always)]
    fn round(self, first: F<Self>, second: F<Self>) -> F<Self> {
        // SAFETY: the type vouches for AVX512-BF16.
        unsafe { x86::round_pairs(first, second) }
    }

    #[inline(always)]
    fn table(self, palette: &[f32; 16], [first, second]: [(f32, f32); 2]) -> F<Self> {
        self.round(affine(self.0, palette, first), affine(self.0, palette, second))
    }

    #[inline(always)]
    unsafe fn look_up(self, table: F<Self>, p: *const u8) -> F<Self> {
        // SAFETY: the caller vouches for 16 bytes, the type for AVX512-BW.
        unsafe { x86::look_up(table, p) }
    }

    #[inline(always)]
    unsafe fn load_rows(self, p: *const f32, stride: usize) -> F<Self> {
        // SAFETY: the caller vouches for two rows of 16 values, the type for AVX512-BF16.
        unsafe { x86::interleave(self.0.load_at(p), self.0.load_at(p.add(stride))) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// Lane by lane, the sum of both products of a pair.
    #[inline(always)]
    pub(super) unsafe fn multiply_add(sum: __m512, x: __m512, w: __m512) -> __m512 {
        // SAFETY: called with AVX512-BF16 at hand; both types are 512 bits.
        unsafe { _mm512_dpbf16_ps(sum, transmute::<__m512, __m512bh>(x), transmute::<__m512, __m512bh>(w)) }
    }

    /// 32 values, of which `first` holds the first 16, as bf16 in order.
    #[inline(always)]
    pub(super) unsafe fn round_pairs(first: __m512, second: __m512) -> __m512 {
        // SAFETY: called with AVX512-BF16 at hand; both types are 512 bits.
        unsafe { transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first)) }
    }

    /// 32 codes of 4 bits by a table of bf16, the first 16 by its first half.
    /// # Safety
    /// 16 bytes can be read at `p`.
    #[inline(always)]
    pub(super) unsafe fn look_up(table: __m512, p: *const u8) -> __m512 {
        // SAFETY: called with AVX512-BW at hand.
        unsafe {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            // (a | b) & c: the even code in the lower 16 bits, the odd one in the upper.
            let codes = _mm512_ternarylogic_epi32::<0xa8>(
                bytes,
                _mm512_slli_epi32::<12>(bytes),
                _mm512_set1_epi32(0x000f_000f),
            );
            let half = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi32(0x0010_0010));
            let indices = _mm512_or_si512(codes, half);
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(indices, _mm512_castps_si512(table)))
        }
    }

    /// Pairs of bf16, the first from `even`, the second from `odd`.
    #[inline(always)]
    pub(super) unsafe fn interleave(even: __m512, odd: __m512) -> __m512 {
        // SAFETY: called with AVX512-BF16 and AVX512-BW at hand.
        unsafe {
            // 0, 16, 1, 17, ...
            let order = _mm512_add_epi32(
                _mm512_set1_epi32(16 << 16),
                _mm512_mullo_epi32(
                    _mm512_set1_epi32(0x0001_0001),
                    _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                ),
            );
            let halves = _mm512_castps_si512(round_pairs(even, odd));
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves))
        }
    }
}

/// Work that is compiled once for each arithmetic.
pub(crate) trait ProductKernel {
    type Output;
    /// Implementations are `#[inline(always)]`, see [`Kernel::run`].
    fn run<A: Arithmetic>(self, arithmetic: A) -> Self::Output;
}

/// Runs a kernel on `isa`, which must be available, with inputs rounded to `precision`.
pub(crate) fn dispatch_product<K: ProductKernel>(isa: Isa, precision: Precision, kernel: K) -> K::Output {
    struct WithSingle<K, const ROUNDED: bool>(K);
    impl<K: ProductKernel, const ROUNDED: bool> Kernel for WithSingle<K, ROUNDED> {
        type Output = K::Output;
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> K::Output {
            self.0.run(Single::<S, ROUNDED>(simd))
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn pairs<K: ProductKernel>(kernel: K, simd: Avx512) -> K::Output {
            kernel.run(Pairs(simd))
        }
        if (isa, precision) == (Isa::Avx512Bf16, Precision::Bf16) {
            // SAFETY: `isa` is available, and its detection looked for each of these features.
            return unsafe { pairs(kernel, Avx512::new()) };
        }
    }
    match precision {
        Precision::F32 => dispatch(isa, WithSingle::<K, false>(kernel)),
        Precision::Bf16 => dispatch(isa, WithSingle::<K, true>(kernel)),
    }
}

/// Sizes that the layout of packed operands depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Values of a unit.
    pub(crate) values: usize,
    /// Lanes of a vector.
    pub(crate) lanes: usize,
    /// Vectors of a tile.
    pub(crate) vectors: usize,
    /// Rows of x in a dot product.
    pub(crate) dot: usize,
}

impl Geometry {
    pub(crate) fn of(isa: Isa, precision: Precision) -> Self {
        struct Measure;
        impl ProductKernel for Measure {
            type Output = Geometry;
            #[inline(always)]
            fn run<A: Arithmetic>(self, _arithmetic: A) -> Geometry {
                let (lanes, vectors) = (A::S::LANES, A::S::TILE_VECTORS);
                Geometry { values: A::VALUES, lanes, vectors, dot: A::S::ACCUMULATORS / 3 }
            }
        }
        dispatch_product(isa, precision, Measure)
    }

    /// Rows of x in a full tile.
    pub(crate) fn panel(self) -> usize {
        self.lanes * self.vectors
    }

    /// Whether values stored in this encoding are units as they stand.
    pub(crate) fn stores(self, encoding: Encoding, precision: Precision) -> bool {
        match encoding {
            Encoding::F32 => precision == Precision::F32,
            Encoding::Bf16 => self.values == 2,
            Encoding::Other => false,
        }
    }

    /// Lines that hold `k` values.
    pub(crate) fn lines(self, k: usize) -> usize {
        k.div_ceil(LINE * self.values)
    }
}
