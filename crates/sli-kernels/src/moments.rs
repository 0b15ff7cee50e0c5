//! Moments of activations, channel by channel, over any number of chunks.

use rayon::prelude::*;

use crate::isa::{Kernel, dispatch, isa};
use crate::simd::Simd;

/// Sums of powers of the values of each channel. They are f64 and each channel is added up in the order of rows, so
/// they do not depend on the number of threads.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelMoments {
    /// Rows taken in.
    pub count: u64,
    /// For each channel, the sum of its values.
    pub sum: Vec<f64>,
    /// For each channel, the sum of their squares.
    pub sum_squares: Vec<f64>,
    /// For each channel, the sum of their cubes.
    pub sum_cubes: Vec<f64>,
    /// For each channel, the sum of their fourth powers.
    pub sum_fourth: Vec<f64>,
    /// For each channel, the largest magnitude.
    pub abs_max: Vec<f32>,
}

/// Channels of a task.
const CHANNELS: usize = 256;

impl ChannelMoments {
    /// The moments of no rows of `width` channels.
    pub fn new(width: usize) -> Self {
        let zeros = vec![0.0; width];
        Self {
            count: 0,
            sum: zeros.clone(),
            sum_squares: zeros.clone(),
            sum_cubes: zeros.clone(),
            sum_fourth: zeros,
            abs_max: vec![0.0; width],
        }
    }

    /// Takes in rows of as many values as there are channels.
    ///
    /// # Panics
    /// Where `x` is not a whole number of rows.
    pub fn add_rows(&mut self, x: &[f32]) {
        let width = self.sum.len();
        if x.is_empty() {
            return;
        }
        assert!(
            width > 0 && x.len().is_multiple_of(width),
            "add_rows: {} values are not rows of {width}",
            x.len()
        );
        self.count += (x.len() / width) as u64;
        let isa = isa();
        self.sum
            .par_chunks_mut(CHANNELS)
            .zip(self.sum_squares.par_chunks_mut(CHANNELS))
            .zip(self.sum_cubes.par_chunks_mut(CHANNELS))
            .zip(self.sum_fourth.par_chunks_mut(CHANNELS))
            .zip(self.abs_max.par_chunks_mut(CHANNELS))
            .enumerate()
            .for_each(|(part, ((((sum, squares), cubes), fourth), abs_max))| {
                let first = part * CHANNELS;
                dispatch(isa, AddRows { x, width, first, sum, squares, cubes, fourth, abs_max });
            });
    }

    /// Takes in what another one has gathered.
    ///
    /// # Panics
    /// Where the numbers of channels differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.sum.len(), other.sum.len(), "merge: numbers of channels differ");
        self.count += other.count;
        for (sums, others) in [
            (&mut self.sum, &other.sum),
            (&mut self.sum_squares, &other.sum_squares),
            (&mut self.sum_cubes, &other.sum_cubes),
            (&mut self.sum_fourth, &other.sum_fourth),
        ] {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        }
        for (most, &other) in self.abs_max.iter_mut().zip(&other.abs_max) {
            *most = most.max(other);
        }
    }
}

/// Adds the channels from `first` on.
struct AddRows<'a> {
    x: &'a [f32],
    width: usize,
    first: usize,
    sum: &'a mut [f64],
    squares: &'a mut [f64],
    cubes: &'a mut [f64],
    fourth: &'a mut [f64],
    abs_max: &'a mut [f32],
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Self { x, width, first, sum, squares, cubes, fourth, abs_max } = self;
        let count = sum.len();
        let (squares, cubes, fourth) = (&mut squares[..count], &mut cubes[..count], &mut fourth[..count]);
        let abs_max = &mut abs_max[..count];
        for row in x.chunks_exact(width) {
            let row = &row[first..first + count];
            for i in 0..count {
                let value = f64::from(row[i]);
                let square = value * value;
                sum[i] += value;
                squares[i] += square;
                cubes[i] += square * value;
                fourth[i] += square * square;
                let size = row[i].abs();
                abs_max[i] = if size > abs_max[i] { size } else { abs_max[i] };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::Random;

    #[test]
    fn moments_are_sums_of_powers() {
        for width in [1, 9, 700] {
            let x = Random::new(2).values(50 * width);
            for_each_isa(|_| {
                let mut whole = ChannelMoments::new(width);
                whole.add_rows(&x);
                whole.add_rows(&[]);
                let (head, tail) = x.split_at(20 * width);
                let (mut parts, mut rest) = (ChannelMoments::new(width), ChannelMoments::new(width));
                parts.add_rows(head);
                rest.add_rows(tail);
                parts.merge(&rest);
                assert_eq!((whole.count, parts.count), (50, 50));
                for c in 0..width {
                    let values = || x.iter().skip(c).step_by(width).map(|&x| f64::from(x));
                    for (power, sums) in [&whole.sum, &whole.sum_squares, &whole.sum_cubes, &whole.sum_fourth]
                        .into_iter()
                        .enumerate()
                    {
                        let expected: f64 = values().map(|x| x.powi(power as i32 + 1)).sum();
                        assert!((sums[c] - expected).abs() < 1e-12 * 50.0);
                    }
                    assert!((whole.sum_fourth[c] - parts.sum_fourth[c]).abs() < 1e-12 * 50.0);
                    let most = values().fold(0.0, |most: f64, x| most.max(x.abs()));
                    assert_eq!(f64::from(whole.abs_max[c]), most);
                    assert_eq!(whole.abs_max[c], parts.abs_max[c]);
                }
            });
        }
    }
}
