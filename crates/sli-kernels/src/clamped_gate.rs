//! The gate of gpt-oss: a bounded SiLU-like gate, times a bounded value plus one.

use crate::isa::{Kernel, dispatch, isa};
use crate::math::sigmoid;
use crate::parallel::for_each_part2;
use crate::simd::Simd;

/// The gate of one vector.
#[inline(always)]
pub(crate) fn clamped<S: Simd>(s: S, gate: S::F, up: S::F, limit: f32, alpha: f32) -> S::F {
    let most = s.splat(limit);
    // A NaN in the second operand stays.
    let g = s.min(most, gate);
    let u = s.max(s.splat(-limit), s.min(most, up));
    let gated = s.mul(g, sigmoid(s, s.mul(g, s.splat(alpha))));
    s.mul_add(gated, u, gated)
}

/// `gate = g * sigmoid(alpha * g) * (u + 1)`, where `g = min(gate, limit)` and `u = up` within `±limit`.
///
/// # Panics
/// Where the lengths differ.
pub(crate) fn clamped_gate(gate: &mut [f32], up: &mut [f32], limit: f32, alpha: f32) {
    struct Clamped<'a> {
        gate: &'a mut [f32],
        up: &'a [f32],
        limit: f32,
        alpha: f32,
    }
    impl Kernel for Clamped<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let Self { gate, up, limit, alpha } = self;
            let mut gates = gate.chunks_exact_mut(S::LANES);
            let ups = up.chunks_exact(S::LANES);
            let last = ups.remainder();
            for (gate, up) in (&mut gates).zip(ups) {
                s.store(gate, clamped(s, s.load(gate), s.load(up), limit, alpha));
            }
            let rest = gates.into_remainder();
            let (g, u) = (s.load_partial(rest, 0.0), s.load_partial(last, 0.0));
            s.store_partial(rest, clamped(s, g, u, limit, alpha));
        }
    }
    assert_eq!(gate.len(), up.len(), "clamped_gate: lengths differ");
    let isa = isa();
    for_each_part2(gate, up, 1, |_, gate, up| dispatch(isa, Clamped { gate, up, limit, alpha }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::{Random, assert_close};

    #[test]
    fn agrees_with_f64() {
        for length in [0, 1, 7, 16, 33, 40_000] {
            let mut random = Random::new(5);
            let scaled = |values: Vec<f32>| values.into_iter().map(|v| v * 12.0).collect::<Vec<_>>();
            let (gate, up) = (scaled(random.values(length)), scaled(random.values(length)));
            for_each_isa(|isa| {
                let (mut y, mut up_again) = (gate.clone(), up.clone());
                clamped_gate(&mut y, &mut up_again, 7.0, 1.702);
                for i in 0..length {
                    let g = f64::from(gate[i]).min(7.0);
                    let u = f64::from(up[i]).clamp(-7.0, 7.0);
                    let expected = g / (1.0 + (-1.702 * g).exp()) * (u + 1.0);
                    assert_close(&y[i..=i], &[expected], 4e-6 * g.abs().max(1e-3), 1.0, &format!("{isa}"));
                }
            });
        }
    }
}
