//! Multi-layer perceptrons, whole: what is between the projections never leaves the layout in which it is multiplied.

use crate::activation::{Activation, Function, WithFunction, activate, gated_activation};
use crate::clamped_gate::{clamped, clamped_gate};
use crate::formats::Rows;
use crate::isa::isa;
use crate::linear::{Activations, FusedMlp, InnerFunction, is_few, linear};
use crate::matrix::{Matrix, WithRows};
use crate::product::{Precision, Weights};
use crate::simd::Simd;

/// A linear map: `W x (+ bias)`.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// The matrix, outputs by inputs.
    pub matrix: Matrix<'a>,
    /// One value for each output.
    pub bias: Option<&'a [f32]>,
}

/// `down(inner(x))`.
#[derive(Clone, Copy, Debug)]
pub struct Mlp<'a> {
    /// What becomes of `up(x)`.
    pub inner: Inner<'a>,
    /// From the input to the inner width.
    pub up: Projection<'a>,
    /// From the inner width to the output.
    pub down: Projection<'a>,
}

/// What is between the projections, where `u = up(x)`.
#[derive(Clone, Copy, Debug)]
pub enum Inner<'a> {
    /// `activation(u)`.
    Activated(Activation),
    /// `activation(gate(x)) * u`.
    Gated(Projection<'a>, Activation),
    /// `g * sigmoid(alpha * g) * (u + 1)`, where `g = min(gate(x), limit)` and u is kept within `±limit`.
    Clamped {
        /// From the input to the inner width.
        gate: Projection<'a>,
        /// The largest magnitude.
        limit: f32,
        /// How steep the sigmoid is.
        alpha: f32,
    },
}

impl<'a> Inner<'a> {
    fn gate(&self) -> Option<&Projection<'a>> {
        match self {
            Inner::Activated(_) => None,
            Inner::Gated(gate, _) | Inner::Clamped { gate, .. } => Some(gate),
        }
    }
}

/// `y[m, out] = down(inner(x[m, in]))`, where m follows from `y`. Inputs of the projections are rounded as `precision`
/// says, the inner values among them.
///
/// # Panics
/// Where the lengths do not fit together or [`Matrix::check`] fails.
pub fn mlp(x: Activations, mlp: &Mlp, precision: Precision, y: &mut [f32]) {
    let Mlp { inner, up, down } = mlp;
    let (width, out) = (up.matrix.rows, down.matrix.rows);
    assert!(
        down.matrix.columns == width,
        "mlp: {width} inner values, but down takes {}",
        down.matrix.columns
    );
    if let Some(gate) = inner.gate() {
        let (g, u) = (&gate.matrix, &up.matrix);
        assert!(
            (g.rows, g.columns) == (u.rows, u.columns),
            "mlp: gate is [{}, {}], up is [{}, {}]",
            g.rows,
            g.columns,
            u.rows,
            u.columns
        );
    }
    let rows = y.len() / out.max(1);
    if is_few(isa(), precision, rows) || up.matrix.columns == 0 || width == 0 {
        return one_after_another(x, mlp, precision, rows, y);
    }
    assert!(
        y.len() == rows * out && x.len() == rows * up.matrix.columns,
        "mlp: up is [{width}, {}], x has {} values, y has {} of {out}",
        up.matrix.columns,
        x.len(),
        y.len()
    );
    for projection in [Some(up), Some(down), inner.gate()].into_iter().flatten() {
        let fits = projection.bias.is_none_or(|bias| bias.len() == projection.matrix.rows);
        assert!(fits, "mlp: a bias does not have {} values", projection.matrix.rows);
    }
    let fused = |gate: Option<&dyn Weights>, up: &dyn Weights, down: &dyn Weights, y: &mut [f32]| {
        let fused = FusedMlp {
            isa: isa(),
            precision,
            x,
            gate: gate.map(|w| (w, inner.gate().and_then(|gate| gate.bias))),
            up: (up, mlp.up.bias),
            down: (down, mlp.down.bias),
        };
        match *inner {
            Inner::Activated(activation) => activation.with(Run { fused, y, of: Activated }),
            Inner::Gated(_, activation) => activation.with(Run { fused, y, of: Gated }),
            Inner::Clamped { limit, alpha, .. } => fused.run(Clamped { limit, alpha }, y),
        }
    };
    let with_gate = |gate: Option<&dyn Weights>, y: &mut [f32]| {
        up.matrix.with_rows(Weighted(|up: &dyn Weights| {
            down.matrix.with_rows(Weighted(|down: &dyn Weights| fused(gate, up, down, y)));
        }));
    };
    match inner.gate() {
        Some(gate) => gate.matrix.with_rows(Weighted(|gate: &dyn Weights| with_gate(Some(gate), y))),
        None => with_gate(None, y),
    }
}

/// Few rows are bound by memory: nothing is gained by keeping what is between.
fn one_after_another(x: Activations, mlp: &Mlp, precision: Precision, rows: usize, y: &mut [f32]) {
    let project = |projection: &Projection| {
        let mut y = vec![0.0; rows * projection.matrix.rows];
        linear(x, &projection.matrix, projection.bias, precision, &mut y);
        y
    };
    let mut up = project(&mlp.up);
    let inner = match &mlp.inner {
        Inner::Activated(activation) => {
            activate(*activation, &mut up);
            up
        }
        Inner::Gated(gate, activation) => {
            let mut gate = project(gate);
            gated_activation(*activation, &mut gate, &up);
            gate
        }
        Inner::Clamped { gate, limit, alpha } => {
            let mut gate = project(gate);
            clamped_gate(&mut gate, &mut up, *limit, *alpha);
            gate
        }
    };
    linear(inner.as_slice().into(), &mlp.down.matrix, mlp.down.bias, precision, y);
}

/// Code that sees a matrix without its format.
struct Weighted<W>(W);

impl<W: FnOnce(&dyn Weights)> WithRows for Weighted<W> {
    type Output = ();
    fn run<R: Rows>(self, rows: R) {
        (self.0)(&rows);
    }
}

/// Runs an MLP whose inner function is made of an activation.
struct Run<'a, M> {
    fused: FusedMlp<'a>,
    y: &'a mut [f32],
    of: M,
}

/// How an inner function is made of an activation.
trait Of {
    type Inner<G: Function>: InnerFunction;
    fn inner<G: Function>(self, function: G) -> Self::Inner<G>;
}

struct Activated;
struct Gated;

/// act(u).
#[derive(Clone, Copy)]
struct ActivatedBy<G>(G);

/// act(g) * u.
#[derive(Clone, Copy)]
struct GatedBy<G>(G);

/// See [`Inner::Clamped`].
#[derive(Clone, Copy)]
struct Clamped {
    limit: f32,
    alpha: f32,
}

impl Of for Activated {
    type Inner<G: Function> = ActivatedBy<G>;
    fn inner<G: Function>(self, function: G) -> ActivatedBy<G> {
        ActivatedBy(function)
    }
}

impl Of for Gated {
    type Inner<G: Function> = GatedBy<G>;
    fn inner<G: Function>(self, function: G) -> GatedBy<G> {
        GatedBy(function)
    }
}

impl<M: Of> WithFunction for Run<'_, M> {
    fn run<G: Function>(self, function: G) {
        self.fused.run(self.of.inner(function), self.y);
    }
}

impl<G: Function> InnerFunction for ActivatedBy<G> {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, _gate: S::F, up: S::F) -> S::F {
        self.0.value(s, up)
    }
}

impl<G: Function> InnerFunction for GatedBy<G> {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, gate: S::F, up: S::F) -> S::F {
        s.mul(self.0.value(s, gate), up)
    }
}

impl InnerFunction for Clamped {
    #[inline(always)]
    fn value<S: Simd>(self, s: S, gate: S::F, up: S::F) -> S::F {
        clamped(s, gate, up, self.limit, self.alpha)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::Stored;
    use crate::isa::tests::for_each_isa;
    use crate::testing::Random;

    /// Widths in, between and out.
    type Widths = (usize, usize, usize);

    fn projection<'a>(stored: &'a Stored, bias: &'a [f32], biased: bool) -> Projection<'a> {
        Projection { matrix: stored.matrix(), bias: biased.then_some(bias) }
    }

    fn check(kind: &'static str, (k, width, out): Widths, rows: usize, biased: bool) {
        let [gate, up] = [1, 2].map(|seed| Stored::random(kind, width, k, 32, seed));
        let down = Stored::random(kind, out, width, 32, 3);
        let mut random = Random::new(rows as u64);
        let x = random.values(rows * k);
        let (inner_bias, out_bias) = (random.values(width), random.values(out));
        let gate = projection(&gate, &inner_bias, biased);
        let kinds = [
            Inner::Activated(Activation::GeluTanh),
            Inner::Gated(gate, Activation::Silu),
            Inner::Clamped { gate, limit: 7.0, alpha: 1.702 },
        ];
        for inner in kinds {
            let whole = Mlp {
                inner,
                up: projection(&up, &inner_bias, biased),
                down: projection(&down, &out_bias, biased),
            };
            for precision in [Precision::F32, Precision::Bf16] {
                for_each_isa(|isa| {
                    let (mut expected, mut y) = (vec![f32::NAN; rows * out], vec![f32::NAN; rows * out]);
                    one_after_another(x[..].into(), &whole, precision, rows, &mut expected);
                    mlp(x[..].into(), &whole, precision, &mut y);
                    // The same sums in the same order.
                    assert_eq!(y, expected, "{isa} {kind} {rows} {k} {width} {out} {precision:?} {inner:?}");
                });
            }
        }
    }

    #[test]
    fn agrees_with_one_operation_after_another() {
        for rows in [1, 24, 25, 64, 300, 400] {
            check("bf16", (48, 130, 40), rows, rows % 2 == 0);
        }
        check("f32", (33, 7, 25), 30, true);
        check("bf16", (100, 1100, 7), 70, false);
    }

    #[test]
    fn weights_of_any_format_are_decoded() {
        for kind in crate::formats::tests::KINDS {
            check(kind, (64, 96, 50), 40, true);
        }
    }

    #[test]
    fn what_scratch_memory_does_not_hold_comes_in_slabs() {
        check("bf16", (9000, 64, 9), 600, true);
    }

    #[test]
    #[should_panic(expected = "96 inner values, but down takes 95")]
    fn widths_that_do_not_fit_are_refused() {
        let [up, down] = [(96, 32), (10, 95)].map(|(n, k)| Stored::random("bf16", n, k, 32, 1));
        let inner = Inner::Activated(Activation::Relu);
        let whole = Mlp { inner, up: projection(&up, &[], false), down: projection(&down, &[], false) };
        mlp(vec![0.0; 50 * 32][..].into(), &whole, Precision::F32, &mut [0.0; 500]);
    }
}
