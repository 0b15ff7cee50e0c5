//! NVFP4: 4-bit floats e2m1 with an e4m3 scale for each 16 columns and an f32 scale for the whole matrix.

use super::nibble::{E2M1, Nibble};
use crate::simd::e4m3_to_f32;

#[derive(Clone, Copy)]
pub(crate) struct Nvfp4<'a> {
    pub(crate) scales: &'a [u8],
    pub(crate) global_scale: f32,
}

impl Nvfp4<'_> {
    pub(crate) const GROUP: usize = 16;
}

impl Nibble for Nvfp4<'_> {
    const PALETTE: [f32; 16] = E2M1;

    #[inline(always)]
    fn group(&self) -> usize {
        Self::GROUP
    }

    #[inline(always)]
    fn count(&self) -> usize {
        self.scales.len()
    }

    #[inline(always)]
    fn affine(&self, place: usize) -> (f32, f32) {
        (e4m3_to_f32(self.scales[place]) * self.global_scale, 0.0)
    }
}
