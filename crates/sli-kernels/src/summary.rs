//! A row of logits that comes in tiles: its log-sum-exp and its largest values, without the row itself.

use rayon::prelude::*;

use crate::isa::{Isa, Kernel, dispatch, isa};
use crate::math::exp;
use crate::parallel::rows_per_task;
use crate::simd::Simd;
use crate::softmax::largest;

/// Running log-sum-exp and top-k of one row. Tiles come in the order of their indices.
#[derive(Clone, Debug)]
pub struct RowSummary {
    k: usize,
    /// The largest value so far.
    max: f32,
    /// The sum of `e^(x - max)` so far.
    sum: f64,
    /// At most k of (value, index), the largest value first, among equals the lowest index.
    top: Vec<(f32, usize)>,
}

impl RowSummary {
    /// The summary of an empty row, which will keep the `k` largest values.
    pub fn new(k: usize) -> Self {
        Self { k, max: f32::NEG_INFINITY, sum: 0.0, top: Vec::with_capacity(k) }
    }

    /// Takes in a tile of the row whose first value has the index `first_index`.
    pub fn update(&mut self, tile: &[f32], first_index: usize) {
        self.update_on(isa(), tile, first_index);
    }

    fn update_on(&mut self, isa: Isa, tile: &[f32], first_index: usize) {
        dispatch(isa, Update { summary: self, tile, first_index });
    }

    /// `ln(sum of e^x)` of the values so far, negative infinity where there are none.
    pub fn log_sum_exp(&self) -> f32 {
        if self.max.is_infinite() { self.max } else { (f64::from(self.max) + self.sum.ln()) as f32 }
    }

    /// The largest values so far with their indices, the largest first, among equals the lowest index first. NaN is
    /// never among them.
    pub fn top(&self) -> &[(f32, usize)] {
        &self.top
    }

    /// Takes in a value, unless it is NaN.
    fn offer(&mut self, value: f32, index: usize) {
        if value.is_nan() {
            return;
        }
        if self.top.len() == self.k {
            if value <= self.threshold() {
                return;
            }
            self.top.pop();
        }
        let place = self.top.partition_point(|entry| entry.0 >= value);
        self.top.insert(place, (value, index));
    }

    /// A value has to be above it to enter a full list.
    fn threshold(&self) -> f32 {
        self.top.last().map_or(f32::INFINITY, |entry| entry.0)
    }
}

/// Updates `rows[i]` with row `i` of `tile`, `[rows.len(), tile_width]`, in parallel.
///
/// # Panics
/// Where `tile` does not have that shape.
pub fn update_rows(rows: &mut [RowSummary], tile: &[f32], tile_width: usize, first_index: usize) {
    assert_eq!(tile.len(), rows.len() * tile_width, "update_rows: the tile is not [rows, tile_width]");
    if tile.is_empty() {
        return;
    }
    let (isa, part) = (isa(), rows_per_task(tile_width));
    rows.par_chunks_mut(part).zip(tile.par_chunks(part * tile_width)).for_each(|(rows, tile)| {
        for (row, tile) in rows.iter_mut().zip(tile.chunks_exact(tile_width)) {
            row.update_on(isa, tile, first_index);
        }
    });
}

struct Update<'a> {
    summary: &'a mut RowSummary,
    tile: &'a [f32],
    first_index: usize,
}

impl Kernel for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { summary, tile, first_index } = self;
        for (part, x) in tile.chunks(4 * S::LANES).enumerate() {
            // Most parts of a long row hold nothing that enters the list.
            if summary.top.len() < summary.k || largest(s, x) > summary.threshold() {
                for (i, &value) in x.iter().enumerate() {
                    summary.offer(value, first_index + part * 4 * S::LANES + i);
                }
            }
        }
        let max = largest(s, tile);
        if max > summary.max {
            summary.sum *= f64::from(summary.max - max).exp();
            summary.max = max;
        }
        // Without a finite maximum there is nothing to add, except a NaN.
        let center = if summary.max.is_infinite() { 0.0 } else { summary.max };
        summary.sum += sum_of_exponentials(s, tile, center);
    }
}

/// The sum of `e^(x - center)`, in f64 across parts of a few hundred values.
#[inline(always)]
fn sum_of_exponentials<S: Simd>(s: S, x: &[f32], center: f32) -> f64 {
    let center = s.splat(center);
    let mut total = 0.0;
    for part in x.chunks(16 * S::LANES) {
        let mut sums = [s.splat(0.0); 4];
        let mut fours = part.chunks_exact(4 * S::LANES);
        for four in &mut fours {
            for (sum, x) in sums.iter_mut().zip(four.chunks_exact(S::LANES)) {
                *sum = s.add(*sum, exp(s, s.sub(s.load(x), center)));
            }
        }
        for x in fours.remainder().chunks(S::LANES) {
            let x = s.load_partial(x, f32::NEG_INFINITY);
            sums[0] = s.add(sums[0], exp(s, s.sub(x, center)));
        }
        total += f64::from(s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]))));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::Random;

    #[test]
    fn tiles_give_what_the_whole_row_gives() {
        let (rows, width, k) = (5, 10_007, 20);
        // Few distinct values, so that there are ties.
        let x: Vec<f32> =
            Random::new(4).values(rows * width).iter().map(|x| (x * 400.0).round() / 20.0).collect();
        for_each_isa(|isa| {
            for tile_width in [1, 100, 4096, width] {
                let mut summaries = vec![RowSummary::new(k); rows];
                for first in (0..width).step_by(tile_width) {
                    let w = tile_width.min(width - first);
                    let tile: Vec<f32> =
                        (0..rows).flat_map(|r| x[r * width + first..][..w].iter().copied()).collect();
                    update_rows(&mut summaries, &tile, w, first);
                }
                for (row, summary) in x.chunks(width).zip(&summaries) {
                    let expected = row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
                    assert!(
                        (f64::from(summary.log_sum_exp()) - expected).abs() < 2e-6 * expected.abs(),
                        "{isa}"
                    );
                    let mut sorted: Vec<(f32, usize)> = row.iter().copied().zip(0..).collect();
                    sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                    assert_eq!(summary.top(), &sorted[..k], "{isa} {tile_width}");
                }
            }
        });
    }

    #[test]
    fn unusual_values_are_handled() {
        for_each_isa(|_| {
            let mut empty = RowSummary::new(2);
            assert_eq!(empty.log_sum_exp(), f32::NEG_INFINITY);
            empty.update(&[f32::NEG_INFINITY, f32::NEG_INFINITY], 0);
            assert_eq!(empty.log_sum_exp(), f32::NEG_INFINITY);
            empty.update(&[2.0], 2);
            assert_eq!(empty.log_sum_exp(), 2.0);
            assert_eq!(empty.top(), [(2.0, 2), (f32::NEG_INFINITY, 0)]);
            empty.update(&[f32::NAN, 1.0], 3);
            assert!(empty.log_sum_exp().is_nan());
            assert_eq!(empty.top(), [(2.0, 2), (1.0, 4)]);
            let mut none = RowSummary::new(0);
            none.update(&[1.0, 3.0], 0);
            assert!(none.top().is_empty());
        });
    }
}
