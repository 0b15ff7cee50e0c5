//! What the tests of several kernels need.

/// A small generator of reproducible values (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// Values in -1..1.
    pub(crate) fn values(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.next() as f32 / 2f32.powi(31) - 1.0).collect()
    }
}

/// Asserts that each value is within `tolerance * scale` of the expected one.
#[track_caller]
pub(crate) fn assert_close(found: &[f32], expected: &[f64], scale: f64, tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= tolerance * scale,
            "{what}: value {i} is {found}, expected {expected} (error {error:e}, allowed {:e})",
            tolerance * scale
        );
    }
}
