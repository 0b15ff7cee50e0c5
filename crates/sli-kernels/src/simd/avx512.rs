//! 16 lanes in the registers of AVX-512.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// This machine has AVX-512 F, BW, DQ and VL, AVX2, FMA and F16C.
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

impl Simd for Avx512 {
    type F = __m512;
    type Mask = __mmask16;
    type Table = [__m512; 1];

    const LANES: usize = 16;
    const ACCUMULATORS: usize = 24;
    const TILE_VECTORS: usize = 4;

    instructions! {
        fn splat(value: f32) -> __m512 { _mm512_set1_ps(value) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn neg_mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fnmadd_ps(a, b, c) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn abs(a: __m512) -> __m512 { _mm512_abs_ps(a) }
        fn copy_sign(a: __m512, sign: __m512) -> __m512 {
            // The truth table of `(mask & sign) | (!mask & a)`.
            _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xca>(
                _mm512_set1_epi32(i32::MIN), _mm512_castps_si512(sign), _mm512_castps_si512(a)))
        }
        fn round(a: __m512) -> __m512 { _mm512_roundscale_ps::<NEAREST>(a) }
        fn scale_by_power(a: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(a, n) }
        fn split_exponent(a: __m512) -> (__m512, __m512) {
            (_mm512_getmant_ps::<_MM_MANT_NORM_P5_1, _MM_MANT_SIGN_ZERO>(a),
             _mm512_add_ps(_mm512_getexp_ps(a), _mm512_set1_ps(1.0)))
        }
        fn less(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
        fn select(mask: __mmask16, yes: __m512, no: __m512) -> __m512 { _mm512_mask_blend_ps(mask, no, yes) }
        fn sum(a: __m512) -> f32 { _mm512_reduce_add_ps(a) }
        fn largest(a: __m512) -> f32 { _mm512_reduce_max_ps(a) }
        fn table() -> [__m512; 1] { [_mm512_setzero_ps()] }
        fn round_bf16(a: __m512) -> __m512 {{
            let bits = _mm512_castps_si512(a);
            let odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x1_0000));
            let up = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
            let up = _mm512_mask_add_epi32(up, odd, up, _mm512_set1_epi32(1));
            // NaN stays as it is: rounding might carry it into an infinity.
            let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(a, a);
            let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_castsi512_ps(_mm512_mask_and_epi32(bits, number, up, high))
        }}
    }

    #[inline(always)]
    unsafe fn load_at(self, p: *const f32) -> __m512 {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store_at(self, p: *mut f32, a: __m512) {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe { _mm512_storeu_ps(p, a) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> __m512 {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> __m512 {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }

    #[inline(always)]
    unsafe fn load_e4m3(self, p: *const u8) -> __m512 {
        // SAFETY: the caller vouches for LANES bytes at `p`.
        unsafe {
            // Sign-extended, so that bit 15 is the sign; exponent and fraction belong 7 bits higher.
            let code = _mm256_cvtepi8_epi16(_mm_loadu_si128(p.cast()));
            let half = _mm256_and_si256(_mm256_slli_epi16::<7>(code), _mm256_set1_epi16(0xbf80_u16 as i16));
            let magnitude = _mm256_and_si256(half, _mm256_set1_epi16(0x7fff));
            let nan = _mm256_cmpeq_epi16_mask(magnitude, _mm256_set1_epi16(0x3f80));
            _mm512_mask_blend_ps(nan, _mm512_cvtph_ps(half), _mm512_set1_ps(f32::NAN))
        }
    }

    #[inline(always)]
    unsafe fn load_two_e4m3(self, p: *const u8) -> [__m512; 2] {
        // SAFETY: the caller vouches for 2 * LANES bytes at `p`.
        unsafe {
            // As above, of 32 codes at a time.
            let code = _mm512_cvtepi8_epi16(_mm256_loadu_si256(p.cast()));
            let half = _mm512_and_si512(_mm512_slli_epi16::<7>(code), _mm512_set1_epi16(0xbf80_u16 as i16));
            let magnitude = _mm512_and_si512(half, _mm512_set1_epi16(0x7fff));
            let nan = _mm512_cmpeq_epi16_mask(magnitude, _mm512_set1_epi16(0x3f80));
            let half = _mm512_mask_blend_epi16(nan, half, _mm512_set1_epi16(0x7e00));
            [
                _mm512_cvtph_ps(_mm512_castsi512_si256(half)),
                _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(half)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> __m512 {
        // SAFETY: the caller vouches for LANES bytes at `p`.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_pairs_of_bits(self, p: *const u8, bit: u32) -> __m512 {
        // SAFETY: the caller vouches for LANES bytes at `p`.
        unsafe {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let codes = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(bit as i32));
            _mm512_cvtepi32_ps(_mm512_and_si512(codes, _mm512_set1_epi32(3)))
        }
    }

    #[inline(always)]
    unsafe fn look_up(self, [table]: [__m512; 1], p: *const u8) -> __m512 {
        // SAFETY: the caller vouches for LANES / 2 bytes at `p`.
        unsafe {
            // The odd codes are moved down; of a code a permutation looks at 4 bits only.
            let bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64(p.cast()));
            let codes = _mm512_or_si512(bytes, _mm512_slli_epi64::<28>(bytes));
            _mm512_permutexvar_ps(codes, table)
        }
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller vouches for 16 rows of 16 values on both sides.
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.add(i * from_stride));
            }
            transpose_registers(&mut r);
            for (j, column) in r.iter().enumerate() {
                _mm512_storeu_ps(to.add(j * to_stride), *column);
            }
        }
    }
}

/// Turns a block of 16 by 16 in 64 shuffles: pairs, then quads within 128-bit parts, then the parts.
#[inline(always)]
unsafe fn transpose_registers(r: &mut [__m512; 16]) {
    // SAFETY: called with AVX-512 at hand.
    unsafe {
        let mut t = [_mm512_setzero_pd(); 16];
        for i in 0..8 {
            t[2 * i] = _mm512_castps_pd(_mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]));
            t[2 * i + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]));
        }
        for i in 0..4 {
            r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(t[4 * i], t[4 * i + 2]));
            r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(t[4 * i], t[4 * i + 2]));
            r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(t[4 * i + 1], t[4 * i + 3]));
            r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(t[4 * i + 1], t[4 * i + 3]));
        }
        let mut u = [_mm512_setzero_ps(); 16];
        for i in 0..4 {
            u[i] = _mm512_shuffle_f32x4::<0x88>(r[i], r[4 + i]);
            u[4 + i] = _mm512_shuffle_f32x4::<0xdd>(r[i], r[4 + i]);
            u[8 + i] = _mm512_shuffle_f32x4::<0x88>(r[8 + i], r[12 + i]);
            u[12 + i] = _mm512_shuffle_f32x4::<0xdd>(r[8 + i], r[12 + i]);
        }
        for i in 0..4 {
            r[i] = _mm512_shuffle_f32x4::<0x88>(u[i], u[8 + i]);
            r[8 + i] = _mm512_shuffle_f32x4::<0xdd>(u[i], u[8 + i]);
            r[4 + i] = _mm512_shuffle_f32x4::<0x88>(u[4 + i], u[12 + i]);
            r[12 + i] = _mm512_shuffle_f32x4::<0xdd>(u[4 + i], u[12 + i]);
        }
    }
}
