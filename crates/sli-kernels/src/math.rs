//! Elementary functions on vectors, accurate to 2 or 3 units in the last place.

use crate::simd::Simd;

/// ln(2) in two parts, the first with so few bits that a small integer times it is exact.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// Where `e^x` is about to be no normal number. Those take processors of some makers a hundred cycles and more to make, and
/// softmax weights of hidden keys would all be made that way.
const LEAST_EXPONENT: f32 = -87.3;

/// `e^x`, or 0 where that is below 1.3e-38. Range reduction to |r| <= ln(2)/2, then the Taylor-like minimax polynomial of
/// Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let vanishes = s.less(x, s.splat(LEAST_EXPONENT));
    // Above, the result is infinite anyway. The order of operands lets NaN through.
    let x = s.max(s.splat(LEAST_EXPONENT), s.min(s.splat(89.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.neg_mul_add(n, s.splat(LN_2_HIGH), x);
    let r = s.neg_mul_add(n, s.splat(LN_2_LOW), r);
    let coefficients = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let p = polynomial(s, r, coefficients);
    let p = s.add(s.mul_add(p, s.mul(r, r), r), s.splat(1.0));
    s.select(vanishes, s.splat(0.0), s.scale_by_power(p, n))
}

/// Coefficients from the highest power down.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F, coefficients: [f32; N]) -> S::F {
    let mut sum = s.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = s.mul_add(sum, x, s.splat(coefficient));
    }
    sum
}

/// `tanh(x)`: Cephes' polynomial near 0, `1 - 2 / (e^2x + 1)` beyond.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let size = s.abs(x);
    let square = s.mul(x, x);
    let coefficients = [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_5e-2, 1.333_144_2e-1, -3.333_328e-1];
    let near = s.mul_add(s.mul(polynomial(s, square, coefficients), square), x, x);
    let e = exp(s, s.add(size, size));
    let far = s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))));
    s.select(s.less(size, s.splat(0.625)), near, s.copy_sign(far, x))
}

/// `erf(x)`: an odd polynomial near 0, `1 - e^p(|x|)` beyond, after N. Juffa's minimax coefficients.
#[inline(always)]
pub(crate) fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    let size = s.abs(x);
    let square = s.mul(x, x);
    let near = polynomial(
        s,
        square,
        [-5.967_617e-4, 4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1],
    );
    let near = s.mul_add(near, x, x);
    // Beyond 4 the result is 1; the bound keeps the polynomial from overflowing. NaN passes.
    let t = s.min(s.splat(4.0), size);
    let high = polynomial(s, t, [-1.728_534_7e-5, 3.831_971_3e-4]);
    let low = polynomial(s, t, [-3.883_964_4e-3, 2.425_462_2e-2]);
    let p = s.mul_add(high, s.mul(t, t), low);
    let p = s.mul_add(p, t, s.splat(-1.067_778_8e-1));
    let p = s.mul_add(p, t, s.splat(-6.348_468_7e-1));
    let p = s.mul_add(p, t, s.splat(-1.287_175_1e-1));
    let p = s.mul_add(p, t, s.sub(s.splat(0.0), t));
    let far = s.copy_sign(s.sub(s.splat(1.0), exp(s, p)), x);
    s.select(s.less(size, s.splat(0.927_734_4)), near, far)
}

/// `ln(1 + x)` for x in 0..=1: Cephes' `logf` on 1 + x, plus what rounding took from 1 + x.
#[inline(always)]
pub(crate) fn log1p_of_fraction<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    let u = s.add(one, x);
    let lost = s.div(s.sub(x, s.sub(u, one)), u);
    let (mantissa, exponent) = s.split_exponent(u);
    // Bring the mantissa to [sqrt(1/2), sqrt(2)) and subtract 1.
    let small = s.less(mantissa, s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let exponent = s.select(small, s.sub(exponent, one), exponent);
    let m = s.sub(s.select(small, s.add(mantissa, mantissa), mantissa), one);
    let square = s.mul(m, m);
    let coefficients = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    let p = s.mul(s.mul(polynomial(s, m, coefficients), m), square);
    let p = s.mul_add(exponent, s.splat(LN_2_LOW), p);
    let p = s.neg_mul_add(s.splat(0.5), square, p);
    let log = s.add(s.mul_add(exponent, s.splat(LN_2_HIGH), s.add(m, p)), lost);
    // The sum above has lost digits of tiny x, where ln(1 + x) is x - x^2 / 2 to the last bit.
    s.select(s.less(x, s.splat(1e-4)), s.neg_mul_add(s.mul(s.splat(0.5), x), x, x), log)
}

/// `1 / (1 + e^-x)`, without overflow.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::isa::{Kernel, dispatch, isa};

    /// A function under test on each value of a slice.
    struct Map<'a, G>(&'a mut [f32], G);

    trait Function {
        fn call<S: Simd>(&self, s: S, x: S::F) -> S::F;
    }

    impl<G: Function> Kernel for Map<'_, G> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for x in self.0.chunks_exact_mut(S::LANES) {
                let y = self.1.call(s, s.load(x));
                s.store(x, y);
            }
        }
    }

    macro_rules! function {
        ($name:ident, $function:path) => {
            struct $name;
            impl Function for $name {
                fn call<S: Simd>(&self, s: S, x: S::F) -> S::F {
                    $function(s, x)
                }
            }
        };
    }
    function!(Exp, exp);
    function!(Tanh, tanh);
    function!(Erf, erf);
    function!(Log1p, log1p_of_fraction);

    /// The largest error in units in the last place, over every `step`-th f32 in -high..=-low and low..=high.
    fn check<G: Function>(
        name: &str,
        function: G,
        reference: fn(f64) -> f64,
        low: f32,
        high: f32,
        both: bool,
        most: f64,
    ) {
        let x: Vec<f32> = (low.to_bits()..=high.to_bits())
            .step_by(997)
            .map(f32::from_bits)
            .flat_map(|x| if both { [x, -x] } else { [x, x] })
            .chain([high; 16])
            .collect();
        let x = &x[..x.len() / 16 * 16];
        for_each_isa(|isa_now| {
            let mut y = x.to_vec();
            dispatch(isa(), Map(&mut y, &function));
            for (&x, &y) in x.iter().zip(&y) {
                let expected = reference(x.into());
                let near = (expected as f32).abs().max(f32::MIN_POSITIVE);
                let unit = f64::from(near.next_up()) - f64::from(near);
                let error = (f64::from(y) - expected).abs() / unit;
                assert!(
                    error <= most,
                    "{isa_now}: {name}({x:e}) is {y:e}, expected {expected:e}: {error} ulp"
                );
            }
        });
    }

    impl<G: Function> Function for &G {
        fn call<S: Simd>(&self, s: S, x: S::F) -> S::F {
            (*self).call(s, x)
        }
    }

    #[test]
    fn functions_are_accurate() {
        check("exp", Exp, f64::exp, 1e-10, 88.7, false, 2.0);
        check("exp", Exp, f64::exp, 1e-10, -LEAST_EXPONENT, true, 2.0);
        check("tanh", Tanh, f64::tanh, 1e-10, 30.0, true, 3.0);
        check("erf", Erf, libm::erf, 1e-10, 8.0, true, 2.0);
        check("log1p", Log1p, f64::ln_1p, 1e-10, 1.0, false, 3.0);
    }

    #[test]
    fn special_values_come_out_right() {
        fn at<G: Function>(function: G, x: f32) -> f32 {
            let mut values = [x; 16];
            dispatch(isa(), Map(&mut values, function));
            values[0]
        }
        for_each_isa(|isa| {
            assert_eq!(at(Exp, f32::NEG_INFINITY), 0.0, "{isa}");
            assert!(
                at(Exp, LEAST_EXPONENT).is_normal() && at(Exp, LEAST_EXPONENT.next_down()) == 0.0,
                "{isa}"
            );
            assert_eq!(at(Exp, f32::INFINITY), f32::INFINITY, "{isa}");
            assert_eq!(at(Exp, 0.0), 1.0, "{isa}");
            assert_eq!(at(Tanh, f32::INFINITY), 1.0, "{isa}");
            assert_eq!(at(Tanh, f32::NEG_INFINITY), -1.0, "{isa}");
            assert_eq!(at(Erf, f32::NEG_INFINITY), -1.0, "{isa}");
            assert_eq!(at(Erf, 3e38), 1.0, "{isa}");
            assert!(at(Exp, f32::NAN).is_nan() && at(Tanh, f32::NAN).is_nan(), "{isa}");
            assert!(at(Erf, f32::NAN).is_nan(), "{isa}");
        });
    }
}
