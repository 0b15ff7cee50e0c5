//! How fast a processor computes what runs are made of.

use serde::{Deserialize, Serialize};

/// Rates of the kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComputeRates {
    /// Floating-point operations per second of products with a wide matrix in bf16, by rows of the other factor.
    pub products: Vec<(usize, f64)>,
    /// The same with weights of 8 bits, which are decoded on their way.
    pub coded_products: Vec<(usize, f64)>,
    /// The rate of products of many rows with a narrow matrix in bf16, as many at once as there are threads.
    pub narrow_products: f64,
    /// Those of attention, by tokens of a sample.
    pub attention: Vec<(usize, f64)>,
    /// f32 values per second that a norm with its residual passes over.
    pub touched_floats: f64,
    /// Values per second that go through an activation function, the exact GELU.
    pub activated_values: f64,
}

/// Rows and columns of a wide matrix,
pub(super) const WIDE: [usize; 2] = [4096, 2048];
/// and of a narrow one.
pub(super) const NARROW: [usize; 2] = [384, 384];

/// Operations of products, and the f32 values that go into them and come out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Products {
    pub(super) flops: f64,
    pub(super) floats: f64,
}

impl Products {
    /// Those of a row with a matrix.
    const fn of_row([n, k]: [usize; 2]) -> Self {
        Self { flops: (2 * n * k) as f64, floats: (n + k) as f64 }
    }

    /// The values beyond those of products with as many operations and a wide matrix.
    fn extra_floats(self) -> f64 {
        const WIDE_ROW: Products = Products::of_row(WIDE);
        (self.floats - self.flops * WIDE_ROW.floats / WIDE_ROW.flops).max(0.0)
    }
}

impl ComputeRates {
    /// Operations per second of products with a wide matrix and this many rows, with weights that have to be decoded or
    /// not.
    pub fn product(&self, rows: usize, coded: bool) -> f64 {
        between(if coded { &self.coded_products } else { &self.products }, rows)
    }

    /// Seconds of products. What a row of x takes to be rounded and laid out, and a row of y to be written, is within the
    /// rates of wide matrices; narrow ones have more of it for each operation.
    pub(super) fn product_seconds(&self, products: Products, rows: usize, coded: bool) -> f64 {
        products.flops / self.product(rows, coded) + products.extra_floats() * self.seconds_per_float()
    }

    fn seconds_per_float(&self) -> f64 {
        let row = Products::of_row(NARROW);
        let longer = row.flops * (1.0 / self.narrow_products - 1.0 / self.peak());
        longer.max(0.0) / row.extra_floats()
    }

    /// Operations per second of attention within samples of so many tokens: short ones leave most of a tile empty.
    pub fn attention(&self, tokens: usize) -> f64 {
        between(&self.attention, tokens)
    }

    /// The faster of two measurements, rate by rate: what else the machine did only slows them.
    pub(super) fn fastest(self, other: Self) -> Self {
        let each = |ours: Vec<(usize, f64)>, theirs: Vec<(usize, f64)>| {
            ours.into_iter().zip(theirs).map(|((at, our), (_, their))| (at, our.max(their))).collect()
        };
        Self {
            products: each(self.products, other.products),
            coded_products: each(self.coded_products, other.coded_products),
            narrow_products: self.narrow_products.max(other.narrow_products),
            attention: each(self.attention, other.attention),
            touched_floats: self.touched_floats.max(other.touched_floats),
            activated_values: self.activated_values.max(other.activated_values),
        }
    }

    /// The best rate of products that was measured.
    pub fn peak(&self) -> f64 {
        self.products.iter().map(|(_, rate)| *rate).fold(0.0, f64::max)
    }
}

/// The rate at a size, between the measured ones on a logarithmic scale. Smaller sizes than all of these take as long as
/// the least, larger ones have the rate of the largest.
fn between(rates: &[(usize, f64)], size: usize) -> f64 {
    let size = size.max(1);
    let above = rates.iter().position(|(measured, _)| *measured >= size);
    match (above, rates.last()) {
        (Some(0), _) => rates[0].1 * size as f64 / rates[0].0 as f64,
        (Some(above), _) => {
            let ((low, low_rate), (high, high_rate)) = (rates[above - 1], rates[above]);
            let part = (size as f64 / low as f64).ln() / (high as f64 / low as f64).ln();
            low_rate + (high_rate - low_rate) * part
        }
        (None, Some((_, rate))) => *rate,
        (None, None) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(products: &[(usize, f64)], narrow_products: f64) -> ComputeRates {
        ComputeRates {
            products: products.to_vec(),
            coded_products: vec![(1, 20.0)],
            narrow_products,
            attention: vec![(8, 1.0), (64, 2.0)],
            touched_floats: 1.0,
            activated_values: 1.0,
        }
    }

    #[test]
    fn rates_between_the_measured_ones_lie_between_them() {
        let rates = rates(&[(1, 10.0), (8, 40.0), (64, 100.0)], 50.0);
        assert_eq!(rates.product(0, false), 10.0);
        assert_eq!(rates.product(8, false), 40.0);
        assert!((rates.product(23, false) - 70.0).abs() < 1.0, "{}", rates.product(23, false));
        assert_eq!(rates.product(5000, false), 100.0);
        assert_eq!((rates.peak(), rates.product(5, true)), (100.0, 20.0));
        assert_eq!([4, 8, 500].map(|tokens| rates.attention(tokens)), [0.5, 1.0, 2.0]);
    }

    #[test]
    fn products_take_as_long_as_those_that_were_measured() {
        let rates = rates(&[(512, 100.0)], 60.0);
        let rate = |matrix| {
            let row = Products::of_row(matrix);
            row.flops / rates.product_seconds(row, 512, false)
        };
        let near =
            |rate: f64, expected: f64| assert!((rate - expected).abs() < 1e-6, "{rate}, not {expected}");
        near(rate(WIDE), 100.0);
        near(rate(NARROW), 60.0);
        near(rate([8192, 8192]), 100.0);
        assert!((60.0..100.0).contains(&rate([1536, 384])));
    }

    #[test]
    fn what_slows_a_round_does_not_count() {
        let merged = rates(&[(1, 1.0), (8, 5.0)], 2.0).fastest(rates(&[(1, 3.0), (8, 4.0)], 1.0));
        assert_eq!(merged, rates(&[(1, 3.0), (8, 5.0)], 2.0));
    }
}
