//! Attention with linear biases (Press et al. 2021), in the dialects of those who use it.

use half::bf16;
use sli_core::Alibi;
use sli_kernels::Bias;

/// The bias of samples up to some length, ready for attention.
#[derive(Clone, Debug)]
pub(crate) enum AlibiBias {
    /// slope * (j - i), or -slope * |j - i|.
    Slopes { slopes: Vec<f32>, symmetric: bool },
    /// A value per head and key, [heads, span].
    Keys { table: Vec<f32>, span: usize },
}

impl AlibiBias {
    /// The bias for samples of up to `longest` tokens whose scores are multiplied by `scale`.
    pub(crate) fn new(alibi: Alibi, num_heads: usize, scale: f64, longest: usize) -> Self {
        let slopes = |slopes, symmetric| Self::Slopes { slopes, symmetric };
        match alibi {
            Alibi::Standard => slopes(standard_slopes(num_heads), false),
            Alibi::Symmetric => slopes(standard_slopes(num_heads), true),
            Alibi::Interleaved { max_bias } => slopes(interleaved_slopes(num_heads, max_bias), false),
            Alibi::Rounded => {
                let round = |value: f32| bf16::from_f32(value).to_f32();
                let of_head =
                    |slope: f32| (0..longest).map(move |j| round(round(slope) * j as f32) * scale as f32);
                let table = standard_slopes(num_heads).into_iter().flat_map(of_head).collect();
                Self::Keys { table, span: longest }
            }
        }
    }

    /// As attention takes it.
    pub(crate) fn kernel(&self) -> Bias<'_> {
        match self {
            Self::Slopes { slopes, symmetric } => Bias::Alibi { slopes, symmetric: *symmetric },
            Self::Keys { table, span } => Bias::Key { table, span: *span },
        }
    }
}

/// 2^(-8 h / n) for h from 1 to n, a power of two; other numbers of heads take the odd ones of twice as many after
/// those of the next smaller power.
fn standard_slopes(num_heads: usize) -> Vec<f32> {
    const MAX_BIAS: f64 = 8.0;
    let power = 1 << num_heads.ilog2();
    let odd = slopes(2 * power, MAX_BIAS).step_by(2);
    slopes(power, MAX_BIAS).chain(odd).take(num_heads).collect()
}

/// 2^(-max_bias h / n); other numbers of heads than powers of two take the even ones of the next larger power, and
/// after them the odd ones.
fn interleaved_slopes(num_heads: usize, max_bias: f64) -> Vec<f32> {
    let power = num_heads.next_power_of_two();
    if power == num_heads {
        return slopes(power, max_bias).collect();
    }
    let every_other = |first| slopes(power, max_bias).skip(first).step_by(2);
    every_other(1).chain(every_other(0)).take(num_heads).collect()
}

fn slopes(heads: usize, max_bias: f64) -> impl Iterator<Item = f32> {
    (1..=heads).map(move |head| (-max_bias * head as f64 / heads as f64).exp2() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_that_are_no_power_of_two_take_other_slopes() {
        let exponents = |slopes: Vec<f32>| slopes.iter().map(|slope| slope.log2()).collect::<Vec<_>>();
        assert_eq!(exponents(standard_slopes(4)), [-2.0, -4.0, -6.0, -8.0]);
        assert_eq!(exponents(standard_slopes(6)), [-2.0, -4.0, -6.0, -8.0, -1.0, -3.0]);
        assert_eq!(exponents(interleaved_slopes(4, 8.0)), [-2.0, -4.0, -6.0, -8.0]);
        assert_eq!(exponents(interleaved_slopes(6, 8.0)), [-2.0, -4.0, -6.0, -8.0, -1.0, -3.0]);
        assert_eq!(exponents(interleaved_slopes(3, 8.0)), [-4.0, -8.0, -2.0]);
        assert_eq!(exponents(standard_slopes(3)), [-4.0, -8.0, -2.0]);
    }

    #[test]
    fn rounded_biases_are_products_in_bf16() {
        let AlibiBias::Keys { table, span } = AlibiBias::new(Alibi::Rounded, 6, 0.5, 8) else {
            panic!("a value per key");
        };
        assert_eq!((table.len(), span), (48, 8));
        // Head 5 has the slope 2^-1, head 6 2^-3: exact. Standard slopes of 12 heads are not.
        assert_eq!(table[4 * 8 + 3], 0.75);
        let AlibiBias::Keys { table, .. } = AlibiBias::new(Alibi::Rounded, 12, 1.0, 8) else {
            panic!("a value per key");
        };
        let slope = bf16::from_f32(0.5f32.sqrt()).to_f32();
        assert_eq!(table[8 * 8 + 7], bf16::from_f32(7.0 * slope).to_f32());
        assert_ne!(table[8 * 8 + 7], 7.0 * slope);
    }
}
