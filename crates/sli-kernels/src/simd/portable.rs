//! Plain arrays that the compiler vectorises for the baseline of the target: NEON on 64-bit Arm, SSE2 on x86-64.

use half::{bf16, f16};

use super::Simd;

const LANES: usize = 8;

/// Has fused multiply-add as one instruction; elsewhere `mul_add` would be a slow library call.
const FUSED: bool = cfg!(target_arch = "aarch64");

#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[derive(Clone, Copy)]
#[repr(align(32))]
pub(crate) struct Lanes([f32; LANES]);

#[inline(always)]
fn map(a: Lanes, f: impl Fn(f32) -> f32) -> Lanes {
    Lanes(std::array::from_fn(|i| f(a.0[i])))
}

#[inline(always)]
fn zip(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    Lanes(std::array::from_fn(|i| f(a.0[i], b.0[i])))
}

/// `2^n` as f32 for integers n in -126..=127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// Exact value of an e4m3 code.
#[inline(always)]
pub(crate) fn e4m3_to_f32(code: u8) -> f32 {
    static VALUES: [f32; 256] = {
        let mut values = [f32::NAN; 256];
        let mut code = 0;
        while code < 256 {
            let (sign, magnitude) = ((code as u32 & 0x80) << 24, code as u32 & 0x7f);
            if magnitude != 0x7f {
                // As f32 bits the exponent is short by the difference of the biases, 127 - 7; the product also sets
                // subnormals right.
                values[code] = f32::from_bits(sign | magnitude << 20) * f32::from_bits((120 + 127) << 23);
            }
            code += 1;
        }
        values
    };
    VALUES[usize::from(code)]
}

/// Rounds to bf16, to nearest with ties to even.
#[inline(always)]
fn round_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    if x.is_nan() { x } else { f32::from_bits(rounded) }
}

impl Simd for Portable {
    type F = Lanes;
    type Mask = [bool; LANES];
    type Table = [Lanes; 2];

    const LANES: usize = LANES;
    const ACCUMULATORS: usize = if FUSED { 12 } else { 4 };
    const TILE_VECTORS: usize = if FUSED { 2 } else { 1 };

    #[inline(always)]
    fn splat(self, value: f32) -> Lanes {
        Lanes([value; LANES])
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        let fused = |i: usize| {
            if FUSED { a.0[i].mul_add(b.0[i], c.0[i]) } else { a.0[i] * b.0[i] + c.0[i] }
        };
        Lanes(std::array::from_fn(fused))
    }

    #[inline(always)]
    fn neg_mul_add(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        self.mul_add(map(a, |a| -a), b, c)
    }

    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn abs(self, a: Lanes) -> Lanes {
        map(a, f32::abs)
    }

    #[inline(always)]
    fn copy_sign(self, a: Lanes, sign: Lanes) -> Lanes {
        zip(a, sign, f32::copysign)
    }

    #[inline(always)]
    fn round(self, a: Lanes) -> Lanes {
        // Adding 1.5 * 2^23 leaves no bits for a fraction; larger values have none to begin with.
        const SHIFT: f32 = 12_582_912.0;
        map(a, |a| if a.abs() < 4_194_304.0 { (a + SHIFT) - SHIFT } else { a })
    }

    #[inline(always)]
    fn scale_by_power(self, a: Lanes, n: Lanes) -> Lanes {
        // In two steps: 2^n itself need not be a normal f32.
        zip(a, n, |a, n| {
            let (n, half) = (n as i32, n as i32 >> 1);
            a * power_of_two(half) * power_of_two(n - half)
        })
    }

    #[inline(always)]
    fn split_exponent(self, a: Lanes) -> (Lanes, Lanes) {
        let mantissa = map(a, |a| f32::from_bits(a.to_bits() & 0x007f_ffff | 0x3f00_0000));
        let exponent = map(a, |a| ((a.to_bits() >> 23) as i32 - 126) as f32);
        (mantissa, exponent)
    }

    #[inline(always)]
    fn less(self, a: Lanes, b: Lanes) -> [bool; LANES] {
        std::array::from_fn(|i| a.0[i] < b.0[i])
    }

    #[inline(always)]
    fn select(self, mask: [bool; LANES], yes: Lanes, no: Lanes) -> Lanes {
        Lanes(std::array::from_fn(|i| if mask[i] { yes.0[i] } else { no.0[i] }))
    }

    #[inline(always)]
    fn sum(self, a: Lanes) -> f32 {
        let [a, b, c, d, e, f, g, h] = a.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    fn largest(self, a: Lanes) -> f32 {
        a.0.iter().fold(f32::NEG_INFINITY, |most, &lane| if lane > most { lane } else { most })
    }

    #[inline(always)]
    fn table(self) -> [Lanes; 2] {
        [Lanes([0.0; LANES]); 2]
    }

    #[inline(always)]
    fn round_bf16(self, a: Lanes) -> Lanes {
        map(a, round_to_bf16)
    }

    #[inline(always)]
    unsafe fn load_at(self, p: *const f32) -> Lanes {
        // SAFETY: the caller vouches for LANES values at `p`.
        Lanes(unsafe { p.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store_at(self, p: *mut f32, a: Lanes) {
        // SAFETY: the caller vouches for LANES values at `p`.
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(a.0) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Lanes {
        // SAFETY: the caller vouches for LANES values at `p`; any bits are a u16.
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        Lanes(bits.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const f16) -> Lanes {
        // SAFETY: the caller vouches for LANES values at `p`.
        Lanes(unsafe { p.cast::<[f16; LANES]>().read_unaligned() }.map(f16::to_f32))
    }

    #[inline(always)]
    unsafe fn load_e4m3(self, p: *const u8) -> Lanes {
        // SAFETY: the caller vouches for LANES bytes at `p`.
        Lanes(unsafe { p.cast::<[u8; LANES]>().read() }.map(|code| e4m3_to_f32(code) / 256.0))
    }

    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> Lanes {
        // SAFETY: the caller vouches for LANES bytes at `p`.
        Lanes(unsafe { p.cast::<[i8; LANES]>().read() }.map(f32::from))
    }

    #[inline(always)]
    unsafe fn load_pairs_of_bits(self, p: *const u8, bit: u32) -> Lanes {
        // SAFETY: the caller vouches for LANES bytes at `p`.
        Lanes(unsafe { p.cast::<[u8; LANES]>().read() }.map(|byte| f32::from(byte >> bit & 3)))
    }

    #[inline(always)]
    unsafe fn look_up(self, table: [Lanes; 2], p: *const u8) -> Lanes {
        // SAFETY: the caller vouches for LANES / 2 bytes at `p`.
        let bytes = unsafe { p.cast::<[u8; LANES / 2]>().read() };
        let code = |i: usize| usize::from(bytes[i / 2] >> (4 * (i % 2)) & 15);
        Lanes(std::array::from_fn(|i| table[code(i) / LANES].0[code(i) % LANES]))
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for i in 0..LANES {
            for j in 0..LANES {
                // SAFETY: the caller vouches for LANES rows of LANES values on both sides.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) };
            }
        }
    }
}
