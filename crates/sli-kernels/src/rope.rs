//! Rotary position embedding, in the rotate-half pairing.

use crate::isa::{Kernel, dispatch, isa};
use crate::parallel::for_each_part;
use crate::simd::Simd;

/// Rotates, in place, the first `rotary_dim` values of each head of `x`, `[tokens, heads * head_dim]`: value `i` pairs
/// with value `i + rotary_dim / 2`. `cos` and `sin` are `[tokens, rotary_dim / 2]`.
///
/// # Panics
/// Where the lengths do not fit together or `rotary_dim` is odd or larger than `head_dim`.
pub fn rope(x: &mut [f32], heads: usize, head_dim: usize, rotary_dim: usize, cos: &[f32], sin: &[f32]) {
    struct Rope<'a> {
        x: &'a mut [f32],
        head_dim: usize,
        cos: &'a [f32],
        sin: &'a [f32],
    }
    impl Kernel for Rope<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _s: S) {
            let half = self.cos.len();
            for head in self.x.chunks_exact_mut(self.head_dim) {
                let (first, second) = head[..2 * half].split_at_mut(half);
                for (((a, b), &cos), &sin) in first.iter_mut().zip(second).zip(self.cos).zip(self.sin) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
    assert!(
        rotary_dim.is_multiple_of(2) && rotary_dim <= head_dim,
        "rope: {rotary_dim} of {head_dim} values"
    );
    let (width, half) = (heads * head_dim, rotary_dim / 2);
    if x.is_empty() || half == 0 {
        return;
    }
    assert!(width > 0 && x.len().is_multiple_of(width), "rope: {} values are not rows of {width}", x.len());
    let tokens = x.len() / width;
    assert!(
        cos.len() == tokens * half && sin.len() == cos.len(),
        "rope: the tables are not [{tokens}, {half}]"
    );
    let isa = isa();
    for_each_part(x, width, |first, x| {
        for (i, x) in x.chunks_exact_mut(width).enumerate() {
            let table = (first + i) * half..(first + i + 1) * half;
            dispatch(isa, Rope { x, head_dim, cos: &cos[table.clone()], sin: &sin[table] });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::{Random, assert_close};

    #[test]
    fn pairs_are_rotated() {
        for (tokens, heads, head_dim, rotary_dim) in
            [(3, 2, 8, 8), (5, 1, 80, 32), (1, 3, 6, 2), (300, 4, 64, 64)]
        {
            let half = rotary_dim / 2;
            let mut random = Random::new(1);
            let x = random.values(tokens * heads * head_dim);
            let angles = random.values(tokens * half);
            let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
            let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
            let expected: Vec<f64> = (0..x.len())
                .map(|at| {
                    let (token, i) = (at / (heads * head_dim), at % head_dim);
                    let table =
                        |i: usize| (f64::from(cos[token * half + i]), f64::from(sin[token * half + i]));
                    let value = |at: usize| f64::from(x[at]);
                    if i < half {
                        value(at) * table(i).0 - value(at + half) * table(i).1
                    } else if i < rotary_dim {
                        value(at) * table(i - half).0 + value(at - half) * table(i - half).1
                    } else {
                        value(at)
                    }
                })
                .collect();
            for_each_isa(|isa| {
                let mut found = x.clone();
                rope(&mut found, heads, head_dim, rotary_dim, &cos, &sin);
                assert_close(&found, &expected, 1.0, 3e-7, &format!("{isa} {head_dim}"));
            });
        }
    }
}
