//! 8 lanes in the registers of AVX2 with FMA and F16C.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// This machine has AVX2, FMA and F16C.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// Methods that are a few register instructions.
macro_rules! instructions {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty { $body:expr })*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $type),*) -> $result {
            // SAFETY: a value of this type exists only where the machine has these instructions.
            unsafe { $body }
        }
    )*};
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// `2^n` for vectors of integers in -126..=127.
#[inline(always)]
unsafe fn power_of_two(n: __m256i) -> __m256 {
    // SAFETY: called with AVX2 at hand.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))) }
}

impl Simd for Avx2 {
    type F = __m256;
    type Mask = __m256;
    type Table = [__m256; 2];

    const LANES: usize = 8;
    const ACCUMULATORS: usize = 12;
    const TILE_VECTORS: usize = 2;

    instructions! {
        fn splat(value: f32) -> __m256 { _mm256_set1_ps(value) }
        fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn neg_mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fnmadd_ps(a, b, c) }
        fn max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        fn min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        fn abs(a: __m256) -> __m256 { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
        fn copy_sign(a: __m256, sign: __m256) -> __m256 {{
            let bit = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(bit, a), _mm256_and_ps(bit, sign))
        }}
        fn round(a: __m256) -> __m256 { _mm256_round_ps::<NEAREST>(a) }
        fn scale_by_power(a: __m256, n: __m256) -> __m256 {{
            // In two steps: 2^n itself need not be a normal f32.
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let once = _mm256_mul_ps(a, power_of_two(half));
            _mm256_mul_ps(once, power_of_two(_mm256_sub_epi32(n, half)))
        }}
        fn split_exponent(a: __m256) -> (__m256, __m256) {{
            let bits = _mm256_castps_si256(a);
            let fraction = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
            let mantissa = _mm256_or_si256(fraction, _mm256_set1_epi32(0x3f00_0000));
            let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(126));
            (_mm256_castsi256_ps(mantissa), _mm256_cvtepi32_ps(exponent))
        }}
        fn less(a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_LT_OQ>(a, b) }
        fn select(mask: __m256, yes: __m256, no: __m256) -> __m256 { _mm256_blendv_ps(no, yes, mask) }
        fn sum(a: __m256) -> f32 {{
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
        }}
        fn largest(a: __m256) -> f32 {{
            let half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let quarter = _mm_max_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)))
        }}
        fn table() -> [__m256; 2] { [_mm256_setzero_ps(); 2] }
        fn round_bf16(a: __m256) -> __m256 {{
            let bits = _mm256_castps_si256(a);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let rounded = _mm256_and_si256(up, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            // NaN stays as it is: rounding might carry it into an infinity.
            _mm256_blendv_ps(a, _mm256_castsi256_ps(rounded), _mm256_cmp_ps::<_CMP_ORD_Q>(a, a))
        }}
    }

    #[inline(always)]
    unsafe fn load_at(self, p: *const f32) -> __m256 {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store_at(self, p: *mut f32, a: __m256) {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe { _mm256_storeu_ps(p, a) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> __m256 {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> __m256 {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }

    #[inline(always)]
    unsafe fn load_e4m3(self, p: *const u8) -> __m256 {
        // SAFETY: the caller vouches for LANES bytes at `p`.
        unsafe {
            // Sign-extended, so that bit 15 is the sign; exponent and fraction belong 7 bits higher.
            let code = _mm_cvtepi8_epi16(_mm_loadl_epi64(p.cast()));
            let half = _mm_and_si128(_mm_slli_epi16::<7>(code), _mm_set1_epi16(0xbf80_u16 as i16));
            let magnitude = _mm_and_si128(half, _mm_set1_epi16(0x7fff));
            let nan = _mm256_cvtepi16_epi32(_mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x3f80)));
            _mm256_blendv_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(f32::NAN), _mm256_castsi256_ps(nan))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m256 {
        // SAFETY: the caller vouches for LANES bytes at `p`.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_pairs_of_bits(self, p: *const u8, bit: u32) -> __m256 {
        // SAFETY: the caller vouches for LANES bytes at `p`.
        unsafe {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            let codes = _mm256_srl_epi32(bytes, _mm_cvtsi32_si128(bit as i32));
            _mm256_cvtepi32_ps(_mm256_and_si256(codes, _mm256_set1_epi32(3)))
        }
    }

    #[inline(always)]
    unsafe fn look_up(self, [low, high]: [__m256; 2], p: *const u8) -> __m256 {
        // SAFETY: the caller vouches for LANES / 2 bytes at `p`.
        unsafe {
            // The odd codes are moved down; a permutation looks at 3 bits, and the fourth chooses the half.
            let bytes = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(p.cast::<i32>().read_unaligned()));
            let codes = _mm256_or_si256(bytes, _mm256_slli_epi64::<28>(bytes));
            let half = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
            let (low, high) = (_mm256_permutevar8x32_ps(low, codes), _mm256_permutevar8x32_ps(high, codes));
            _mm256_blendv_ps(low, high, half)
        }
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller vouches for 8 rows of 8 values on both sides.
        unsafe {
            let mut r = [_mm256_setzero_ps(); 8];
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(from.add(i * from_stride));
            }
            let mut t = [_mm256_setzero_pd(); 8];
            for i in 0..4 {
                t[2 * i] = _mm256_castps_pd(_mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]));
                t[2 * i + 1] = _mm256_castps_pd(_mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]));
            }
            for i in 0..2 {
                r[4 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(t[4 * i], t[4 * i + 2]));
                r[4 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(t[4 * i], t[4 * i + 2]));
                r[4 * i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(t[4 * i + 1], t[4 * i + 3]));
                r[4 * i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(t[4 * i + 1], t[4 * i + 3]));
            }
            for i in 0..4 {
                _mm256_storeu_ps(to.add(i * to_stride), _mm256_permute2f128_ps::<0x20>(r[i], r[4 + i]));
                _mm256_storeu_ps(to.add((4 + i) * to_stride), _mm256_permute2f128_ps::<0x31>(r[i], r[4 + i]));
            }
        }
    }
}
