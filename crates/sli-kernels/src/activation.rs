//! Elementwise functions, alone and as the gate of a gated layer.

use crate::isa::{Kernel, dispatch, isa};
use crate::math::{erf, exp, log1p_of_fraction, sigmoid, tanh};
use crate::parallel::for_each_part;
use crate::simd::Simd;

/// An elementwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)^2`
    ReluSquared,
    /// `x (1 + erf(x / sqrt(2))) / 2`
    Gelu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`
    GeluTanh,
    /// `x sigmoid(1.702 x)`
    QuickGelu,
    /// `x sigmoid(x)`
    Silu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
    /// `ln(1 + e^x)`
    Softplus,
}

/// An [`Activation`] as a type, so that each loop is compiled for its own function.
pub(crate) trait Function: Copy + Sync {
    fn value<S: Simd>(self, s: S, x: S::F) -> S::F;
}

macro_rules! functions {
    ($($name:ident($s:ident, $x:ident) $body:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn value<S: Simd>(self, $s: S, $x: S::F) -> S::F {
                $body
            }
        }
    )*

        impl Activation {
            /// Hands the activation to code that is generic over it.
            pub(crate) fn with<W: WithFunction>(self, with: W) {
                match self {
                    $(Activation::$name => with.run($name),)*
                }
            }
        }
    };
}

/// Code that is compiled once for each function.
pub(crate) trait WithFunction {
    fn run<G: Function>(self, function: G);
}

functions! {
    Identity(_s, x) x;
    // A NaN in the second operand stays.
    Relu(s, x) s.max(s.splat(0.0), x);
    ReluSquared(s, x) {
        let x = s.max(s.splat(0.0), x);
        s.mul(x, x)
    };
    Gelu(s, x) {
        let half = s.mul(x, s.splat(0.5));
        s.mul_add(half, erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2))), half)
    };
    GeluTanh(s, x) {
        let cubic = s.mul(s.mul(x, x), s.splat(0.044_715));
        let inner = s.mul(s.mul_add(cubic, x, x), s.splat(0.797_884_6));
        let half = s.mul(x, s.splat(0.5));
        s.mul_add(half, tanh(s, inner), half)
    };
    QuickGelu(s, x) s.mul(x, sigmoid(s, s.mul(x, s.splat(1.702))));
    Silu(s, x) {
        let e = exp(s, s.sub(s.splat(0.0), x));
        s.div(x, s.add(s.splat(1.0), e))
    };
    Sigmoid(s, x) sigmoid(s, x);
    Tanh(s, x) tanh(s, x);
    Softplus(s, x) {
        let small = exp(s, s.sub(s.splat(0.0), s.abs(x)));
        s.add(s.max(s.splat(0.0), x), log1p_of_fraction(s, small))
    };
}

/// Replaces each value by its activation.
pub fn activate(activation: Activation, x: &mut [f32]) {
    struct Activate<'a, G>(&'a mut [f32], G);
    impl<G: Function> Kernel for Activate<'_, G> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let mut whole = self.0.chunks_exact_mut(S::LANES);
            for x in &mut whole {
                let y = self.1.value(s, s.load(x));
                s.store(x, y);
            }
            let rest = whole.into_remainder();
            let y = self.1.value(s, s.load_partial(rest, 0.0));
            s.store_partial(rest, y);
        }
    }
    struct All<'a>(&'a mut [f32]);
    impl WithFunction for All<'_> {
        fn run<G: Function>(self, function: G) {
            let isa = isa();
            for_each_part(self.0, 1, |_, x| dispatch(isa, Activate(x, function)));
        }
    }
    activation.with(All(x));
}

/// `gate = activation(gate) * up`.
///
/// # Panics
/// Where the lengths differ.
pub fn gated_activation(activation: Activation, gate: &mut [f32], up: &[f32]) {
    struct Gated<'a, G>(&'a mut [f32], &'a [f32], G);
    impl<G: Function> Kernel for Gated<'_, G> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let Self(gate, up, function) = self;
            let mut gates = gate.chunks_exact_mut(S::LANES);
            let ups = up.chunks_exact(S::LANES);
            let last_up = ups.remainder();
            for (gate, up) in (&mut gates).zip(ups) {
                s.store(gate, s.mul(function.value(s, s.load(gate)), s.load(up)));
            }
            let last = gates.into_remainder();
            let y = s.mul(function.value(s, s.load_partial(last, 0.0)), s.load_partial(last_up, 0.0));
            s.store_partial(last, y);
        }
    }
    struct All<'a>(&'a mut [f32], &'a [f32]);
    impl WithFunction for All<'_> {
        fn run<G: Function>(self, function: G) {
            let (isa, Self(gate, up)) = (isa(), self);
            for_each_part(gate, 1, |first, gate| {
                let up = &up[first..first + gate.len()];
                dispatch(isa, Gated(gate, up, function));
            });
        }
    }
    assert!(up.len() == gate.len(), "gated_activation: lengths differ");
    activation.with(All(gate, up));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::{Random, assert_close};

    fn reference(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Identity => x,
            Activation::Relu => x.max(0.0),
            Activation::ReluSquared => x.max(0.0).powi(2),
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        }
    }

    #[test]
    fn activations_agree_with_f64() {
        use Activation::*;
        for activation in
            [Identity, Relu, ReluSquared, Gelu, GeluTanh, QuickGelu, Silu, Sigmoid, Tanh, Softplus]
        {
            for length in [0, 1, 7, 16, 33, 40_000] {
                let mut random = Random::new(3);
                let x: Vec<f32> = random.values(length).iter().map(|x| x * 12.0).collect();
                let up = random.values(length);
                for_each_isa(|isa| {
                    let mut y = x.clone();
                    activate(activation, &mut y);
                    let mut gated = x.clone();
                    gated_activation(activation, &mut gated, &up);
                    for i in 0..length {
                        let expected = reference(activation, x[i].into());
                        let allowed = 4e-7 * expected.abs().max(f64::from(x[i]).abs()).max(1e-3);
                        let what = format!("{isa}: {activation:?} of {}", x[i]);
                        assert_close(&y[i..=i], &[expected], allowed, 1.0, &what);
                        assert_close(&gated[i..=i], &[expected * f64::from(up[i])], allowed, 1.0, &what);
                    }
                });
            }
        }
    }

    #[test]
    fn extremes_do_not_become_nan() {
        use Activation::*;
        for_each_isa(|isa| {
            for activation in [Gelu, GeluTanh, QuickGelu, Silu, Sigmoid, Tanh, Softplus] {
                let mut x = [1e4, -1e4, 0.0, f32::NAN];
                activate(activation, &mut x);
                let expected = [1e4, -1e4, 0.0].map(|x| reference(activation, x) as f32);
                assert_eq!(x[0], expected[0], "{isa} {activation:?}");
                assert!((x[1] - expected[1]).abs() < 1e-30, "{isa} {activation:?} of -1e4: {}", x[1]);
                assert!((x[2] - expected[2]).abs() < 1e-7, "{isa} {activation:?}");
                assert!(x[3].is_nan(), "{isa} {activation:?}");
            }
        });
    }
}
