//! MXFP4 of the OCP Microscaling Formats (MX) Specification 1.0: 4-bit floats e2m1 with a power of two for each 32
//! columns.

use super::nibble::{E2M1, Nibble};

#[derive(Clone, Copy)]
pub(crate) struct Mxfp4<'a> {
    pub(crate) scales: &'a [u8],
}

impl Mxfp4<'_> {
    pub(crate) const GROUP: usize = 32;
}

impl Nibble for Mxfp4<'_> {
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
        (e8m0_to_f32(self.scales[place]), 0.0)
    }
}

/// `2^(code - 127)`; 255 is NaN.
#[inline(always)]
fn e8m0_to_f32(code: u8) -> f32 {
    f32::from_bits(match code {
        0 => 1 << 22, // subnormal
        255 => 0x7fc0_0000,
        _ => u32::from(code) << 23,
    })
}

#[cfg(test)]
mod tests {
    use super::e8m0_to_f32;

    #[test]
    fn scales_are_powers_of_two() {
        for code in 0..255u8 {
            assert_eq!(f64::from(e8m0_to_f32(code)), 2f64.powi(i32::from(code) - 127), "code {code}");
        }
        assert!(e8m0_to_f32(255).is_nan());
    }
}
