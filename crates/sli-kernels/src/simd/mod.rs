//! Vectors of f32 in the registers of one instruction set.
//!
//! A kernel is written once against [`Simd`] and compiled for each implementation by [`crate::isa::dispatch`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
use half::{bf16, f16};
pub(crate) use portable::{Portable, e4m3_to_f32};

/// An instruction set: a value of the type is the proof that this machine has it.
pub(crate) trait Simd: Copy + Send + Sync {
    /// [`Self::LANES`] values of f32.
    type F: Copy;
    /// Yes or no for each lane.
    type Mask: Copy;
    /// 16 values.
    type Table: Copy + AsMut<[Self::F]>;

    /// At most 16, a power of two.
    const LANES: usize;
    /// Vectors that a matrix product accumulates in at a time, so that its inputs still fit in registers.
    const ACCUMULATORS: usize;
    /// Vectors of rows of x in a tile of a matrix product, at most; divides [`Self::ACCUMULATORS`] evenly.
    const TILE_VECTORS: usize;

    fn splat(self, value: f32) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, fused where the hardware does it.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c - a * b`, fused where the hardware does it.
    fn neg_mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `if a > b { a } else { b }`: b where either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { a } else { b }`: b where either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// The magnitude of `a` with the sign of `sign`.
    fn copy_sign(self, a: Self::F, sign: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `a * 2^n` for integers n in -252..=252, rounded once or, where subnormal, twice.
    fn scale_by_power(self, a: Self::F, n: Self::F) -> Self::F;
    /// `a = m * 2^e` with m in [1/2, 1), for normal positive a; gives (m, e).
    fn split_exponent(self, a: Self::F) -> (Self::F, Self::F);
    fn less(self, a: Self::F, b: Self::F) -> Self::Mask;
    fn select(self, mask: Self::Mask, yes: Self::F, no: Self::F) -> Self::F;
    /// The sum of the lanes, halves folded onto one another.
    fn sum(self, a: Self::F) -> f32;
    /// The largest lane, of lanes that are no NaN.
    fn largest(self, a: Self::F) -> f32;
    /// Sixteen zeros.
    fn table(self) -> Self::Table;
    /// Each lane rounded to bf16 (to nearest, ties to even), kept as f32.
    fn round_bf16(self, a: Self::F) -> Self::F;

    /// # Safety
    /// `LANES` values can be read at `p`.
    unsafe fn load_at(self, p: *const f32) -> Self::F;
    /// # Safety
    /// `LANES` values can be written at `p`.
    unsafe fn store_at(self, p: *mut f32, a: Self::F);
    /// # Safety
    /// `LANES` values can be read at `p`.
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F;
    /// # Safety
    /// `LANES` values can be read at `p`.
    unsafe fn load_f16(self, p: *const f16) -> Self::F;
    /// Values of the 8-bit float format e4m3 (no infinities; 0x7f and 0xff are NaN), divided by 256: the bits of a code
    /// are then, but for their places, those of a half-precision float.
    /// # Safety
    /// `LANES` bytes can be read at `p`.
    unsafe fn load_e4m3(self, p: *const u8) -> Self::F;
    /// Two [`Self::load_e4m3`], one after the other.
    /// # Safety
    /// `2 * LANES` bytes can be read at `p`.
    #[inline(always)]
    unsafe fn load_two_e4m3(self, p: *const u8) -> [Self::F; 2] {
        // SAFETY: passed on to the caller.
        unsafe { [self.load_e4m3(p), self.load_e4m3(p.add(Self::LANES))] }
    }
    /// # Safety
    /// `LANES` bytes can be read at `p`.
    unsafe fn load_i8(self, p: *const i8) -> Self::F;
    /// The two bits of each byte that begin at `bit`, at most 6, as numbers from 0 to 3.
    /// # Safety
    /// `LANES` bytes can be read at `p`.
    unsafe fn load_pairs_of_bits(self, p: *const u8, bit: u32) -> Self::F;
    /// The entries of a table that codes of 4 bits pick, the even ones from the low half of each byte.
    /// # Safety
    /// `LANES / 2` bytes can be read at `p`.
    unsafe fn look_up(self, table: Self::Table, p: *const u8) -> Self::F;
    /// Turns a square block: `to[j * to_stride + i] = from[i * from_stride + j]` for i, j below `LANES`.
    /// # Safety
    /// `LANES` rows of `LANES` values can be read at `from` and written at `to`, with these distances between rows.
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);

    /// The first `LANES` values of `x`, which has at least so many.
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        assert!(x.len() >= Self::LANES);
        // SAFETY: the length was just checked.
        unsafe { self.load_at(x.as_ptr()) }
    }

    /// Writes to the first `LANES` values of `x`, which has at least so many.
    #[inline(always)]
    fn store(self, x: &mut [f32], a: Self::F) {
        assert!(x.len() >= Self::LANES);
        // SAFETY: the length was just checked.
        unsafe { self.store_at(x.as_mut_ptr(), a) }
    }

    /// All of `x`, at most `LANES` values; the remaining lanes hold `fill`.
    #[inline(always)]
    fn load_partial(self, x: &[f32], fill: f32) -> Self::F {
        let mut lanes = [fill; 16];
        lanes[..x.len()].copy_from_slice(x);
        self.load(&lanes)
    }

    /// Fills `x`, at most `LANES` values, from the first lanes.
    #[inline(always)]
    fn store_partial(self, x: &mut [f32], a: Self::F) {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes, a);
        x.copy_from_slice(&lanes[..x.len()]);
    }

    /// As [`Self::load`] where `x` has `LANES` values, which is the common case; the lanes past a shorter one are zero.
    #[inline(always)]
    fn load_up_to(self, x: &[f32]) -> Self::F {
        if x.len() == Self::LANES { self.load(x) } else { self.load_partial(x, 0.0) }
    }

    /// As [`Self::store`] where `x` has `LANES` values, which is the common case; all of a shorter one.
    #[inline(always)]
    fn store_up_to(self, x: &mut [f32], a: Self::F) {
        if x.len() == Self::LANES { self.store(x, a) } else { self.store_partial(x, a) }
    }
}
