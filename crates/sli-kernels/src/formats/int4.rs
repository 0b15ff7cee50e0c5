//! Unsigned 4-bit integers with a scale and a zero point for each group of columns.

use super::ZeroPoints;
use super::nibble::Nibble;

#[derive(Clone, Copy)]
pub(crate) struct Int4<'a, Z> {
    pub(crate) scales: &'a [f32],
    pub(crate) zero_points: Z,
    pub(crate) group: usize,
}

impl<Z: ZeroPoints> Nibble for Int4<'_, Z> {
    const PALETTE: [f32; 16] =
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

    #[inline(always)]
    fn group(&self) -> usize {
        self.group
    }

    #[inline(always)]
    fn count(&self) -> usize {
        self.scales.len()
    }

    #[inline(always)]
    fn affine(&self, place: usize) -> (f32, f32) {
        (self.scales[place], self.zero_points.of(place))
    }
}
