use half::bf16;

use super::*;
use crate::formats::tests::{KINDS, Stored};
use crate::isa::tests::for_each_isa;
use crate::matrix::Format;
use crate::testing::{Random, assert_close};

fn round(x: f32, precision: Precision) -> f64 {
    match precision {
        Precision::F32 => x.into(),
        Precision::Bf16 => bf16::from_f32(x).to_f64(),
    }
}

fn check(stored: &Stored, m: usize, precision: Precision, with_bias: bool, as_bf16: bool) {
    let (n, k) = (stored.rows, stored.columns);
    let mut random = Random::new(m as u64);
    let mut x = random.values(m * k);
    let narrow: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    if as_bf16 {
        x = narrow.iter().map(|x| x.to_f32()).collect();
    }
    let bias = random.values(n);
    let bias = with_bias.then_some(&bias[..]);
    for_each_isa(|isa| {
        let weights = if rounds_weights(isa, precision, m, stored) { precision } else { Precision::F32 };
        let mut expected = vec![0.0; m * n];
        // Rounding errors are proportional to the sum of magnitudes.
        let mut scale = 1e-3f64;
        for i in 0..m {
            for r in 0..n {
                let products =
                    (0..k).map(|c| round(x[i * k + c], precision) * round(stored.value(r, c), weights));
                let (sum, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
                expected[i * n + r] = sum + bias.map_or(0.0, |bias| bias[r].into());
                scale = scale.max(size);
            }
        }
        let mut y = vec![f32::NAN; m * n];
        let activations = if as_bf16 { Activations::Bf16(&narrow) } else { Activations::F32(&x) };
        linear(activations, &stored.matrix(), bias, precision, &mut y);
        let what = format!("{isa} {} m={m} n={n} k={k} {precision:?}", stored.kind);
        assert_close(&y, &expected, scale, 3e-7, &what);
    });
}

/// Whether weights are rounded to `precision`: not where they are decoded into products of f32.
fn rounds_weights(isa: Isa, precision: Precision, m: usize, stored: &Stored) -> bool {
    struct Decoded(Isa, Precision, usize);
    impl WithRows for Decoded {
        type Output = bool;
        fn run<R: Rows>(self, rows: R) -> bool {
            decoded::suits(self.0, self.1, self.2, &rows)
        }
    }
    Geometry::of(isa, precision).values == 2 || !stored.matrix().with_rows(Decoded(isa, precision, m))
}

#[test]
fn every_format_agrees_with_the_reference() {
    for kind in KINDS {
        for precision in [Precision::F32, Precision::Bf16] {
            for (n, k, group) in [(30, 48, 32), (7, 33, 8), (101, 130, 64)] {
                let stored = Stored::random(kind, n, k, group, 11);
                for m in [1, 5, 8, 19] {
                    check(&stored, m, precision, m == 5, false);
                }
            }
        }
    }
}

#[test]
fn odd_shapes_agree_with_the_reference() {
    for precision in [Precision::F32, Precision::Bf16] {
        for (n, k) in [(1, 1), (3, 4), (8, 8), (24, 48), (97, 600), (25, 2100), (192, 31)] {
            let stored = Stored::random("bf16", n, k, 1, 5);
            for m in [1, 2, 3, 4, 6, 7, 9, 16, 33, 50, 64, 81, 130] {
                check(&stored, m, precision, m % 2 == 0, m % 3 == 0);
            }
        }
        check(&Stored::random("f32", 10, 40, 1, 5), 1100, precision, true, false);
    }
}

#[test]
fn empty_shapes_do_nothing_or_give_the_bias() {
    for_each_isa(|_| {
        let none = Matrix { rows: 3, columns: 0, format: Format::F32(&[]) };
        let mut y = [f32::NAN; 6];
        linear(Activations::F32(&[]), &none, Some(&[1.0, 2.0, 3.0]), Precision::F32, &mut y);
        assert_eq!(y, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        linear(Activations::F32(&[]), &none, None, Precision::Bf16, &mut y);
        assert_eq!(y, [0.0; 6]);
        linear(Activations::F32(&[]), &none, None, Precision::F32, &mut []);
        let flat = Matrix { rows: 0, columns: 5, format: Format::F32(&[]) };
        linear(Activations::F32(&[1.0; 5]), &flat, None, Precision::F32, &mut []);
    });
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let stored = Stored::random("bf16", 300, 700, 1, 5);
    let x = Random::new(2).values(200 * 700);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut y = vec![0.0; 200 * 300];
        pool.install(|| linear(Activations::F32(&x), &stored.matrix(), None, Precision::Bf16, &mut y));
        y
    };
    assert_eq!(run(1), run(3));
}
