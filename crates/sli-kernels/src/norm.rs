//! RMS norm, layer norm, and the residual addition that goes with them.

use crate::isa::{Kernel, dispatch, isa};
use crate::parallel::{for_each_part, for_each_part2};
use crate::simd::Simd;

/// `y = x / sqrt(mean(x^2) + eps) * weight`, for each row of `width`. Without a weight it is 1.
///
/// # Panics
/// Where `x` and `y` are not the same whole number of rows, or the weight is not `width` long.
pub fn rms_norm(x: &[f32], width: usize, weight: Option<&[f32]>, eps: f32, y: &mut [f32]) {
    check("rms_norm", x.len(), width, y.len(), weight, None);
    let (isa, scale) = (isa(), Scale { weight, bias: None, eps });
    for_each_part(y, width, |first, y| {
        let x = &x[first * width..][..y.len()];
        dispatch(isa, RmsNorm { x, width, scale, y });
    });
}

/// `y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias`, for each row of `width`, with the population variance.
/// Without them the weight is 1 and the bias 0.
///
/// # Panics
/// Where `x` and `y` are not the same whole number of rows, or weight or bias are not `width` long.
pub fn layer_norm(
    x: &[f32],
    width: usize,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
) {
    check("layer_norm", x.len(), width, y.len(), weight, bias);
    let (isa, scale) = (isa(), Scale { weight, bias, eps });
    for_each_part(y, width, |first, y| {
        let x = &x[first * width..][..y.len()];
        dispatch(isa, LayerNorm { x, width, scale, y });
    });
}

/// `residual += branch`, then `y = rms_norm(residual)`, in one pass over memory.
///
/// # Panics
/// As [`rms_norm`], and where `branch` is not as long as `residual`.
pub fn add_rms_norm(
    residual: &mut [f32],
    branch: &[f32],
    width: usize,
    weight: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
) {
    check("add_rms_norm", residual.len(), width, y.len(), weight, None);
    assert_eq!(residual.len(), branch.len(), "add_rms_norm: lengths differ");
    let (isa, scale) = (isa(), Scale { weight, bias: None, eps });
    for_each_part2(residual, y, width, |first, residual, y| {
        let branch = &branch[first * width..][..y.len()];
        for ((residual, branch), y) in
            rows_mut(residual, width).zip(rows(branch, width)).zip(rows_mut(y, width))
        {
            dispatch(isa, Add { x: residual, y: branch });
            dispatch(isa, RmsNorm { x: residual, width, scale, y });
        }
    });
}

/// `x += y`.
///
/// # Panics
/// Where the lengths differ.
pub fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "add: lengths differ");
    let isa = isa();
    for_each_part(x, 1, |first, x| {
        let y = &y[first..first + x.len()];
        dispatch(isa, Add { x, y });
    });
}

fn check(name: &str, x: usize, width: usize, y: usize, weight: Option<&[f32]>, bias: Option<&[f32]>) {
    assert_eq!(x, y, "{name}: lengths differ");
    assert!(x == 0 || (width > 0 && x.is_multiple_of(width)), "{name}: {x} values are not rows of {width}");
    for part in [weight, bias].into_iter().flatten() {
        assert_eq!(part.len(), width, "{name}: weight or bias is not one row");
    }
}

fn rows(x: &[f32], width: usize) -> std::slice::ChunksExact<'_, f32> {
    x.chunks_exact(width.max(1))
}

fn rows_mut(x: &mut [f32], width: usize) -> std::slice::ChunksExactMut<'_, f32> {
    x.chunks_exact_mut(width.max(1))
}

#[derive(Clone, Copy)]
struct Scale<'a> {
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    eps: f32,
}

struct Add<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        for (x, y) in self.x.iter_mut().zip(self.y) {
            *x += y;
        }
    }
}

struct RmsNorm<'a> {
    x: &'a [f32],
    width: usize,
    scale: Scale<'a>,
    y: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, width, scale, y } = self;
        for (x, y) in rows(x, width).zip(rows_mut(y, width)) {
            let mean = sum_squares(s, x, 0.0) / width as f32;
            normalize(s, x, 0.0, 1.0 / (mean + scale.eps).sqrt(), scale, y);
        }
    }
}

struct LayerNorm<'a> {
    x: &'a [f32],
    width: usize,
    scale: Scale<'a>,
    y: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, width, scale, y } = self;
        for (x, y) in rows(x, width).zip(rows_mut(y, width)) {
            let mean = sum(s, x) / width as f32;
            // In a second pass: the mean square less the squared mean would cancel.
            let variance = sum_squares(s, x, mean) / width as f32;
            normalize(s, x, mean, 1.0 / (variance + scale.eps).sqrt(), scale, y);
        }
    }
}

/// Sums in four chains, so that additions overlap and errors stay small.
#[inline(always)]
fn sum<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    let mut fours = x.chunks_exact(4 * S::LANES);
    for four in &mut fours {
        for (sum, x) in sums.iter_mut().zip(four.chunks_exact(S::LANES)) {
            *sum = s.add(*sum, s.load(x));
        }
    }
    for x in fours.remainder().chunks(S::LANES) {
        sums[0] = s.add(sums[0], s.load_partial(x, 0.0));
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// The sum of `(x - mean)^2`.
#[inline(always)]
fn sum_squares<S: Simd>(s: S, x: &[f32], mean: f32) -> f32 {
    let center = s.splat(mean);
    let mut sums = [s.splat(0.0); 4];
    let mut fours = x.chunks_exact(4 * S::LANES);
    for four in &mut fours {
        for (sum, x) in sums.iter_mut().zip(four.chunks_exact(S::LANES)) {
            let x = s.sub(s.load(x), center);
            *sum = s.mul_add(x, x, *sum);
        }
    }
    for x in fours.remainder().chunks(S::LANES) {
        let x = s.sub(s.load_partial(x, mean), center);
        sums[0] = s.mul_add(x, x, sums[0]);
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// `y = (x - mean) * factor * weight + bias`.
#[inline(always)]
fn normalize<S: Simd>(s: S, x: &[f32], mean: f32, factor: f32, scale: Scale, y: &mut [f32]) {
    let (center, factor) = (s.splat(mean), s.splat(factor));
    for at in (0..x.len()).step_by(S::LANES) {
        let end = x.len().min(at + S::LANES);
        let load = |x: &[f32]| s.load_up_to(&x[at..end]);
        let mut value = s.mul(s.sub(load(x), center), factor);
        if let Some(weight) = scale.weight {
            value = s.mul(value, load(weight));
        }
        if let Some(bias) = scale.bias {
            value = s.add(value, load(bias));
        }
        s.store_up_to(&mut y[at..end], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::{Random, assert_close};

    fn reference(
        x: &[f32],
        width: usize,
        center: bool,
        weight: Option<&[f32]>,
        bias: Option<&[f32]>,
    ) -> Vec<f64> {
        let normalized = |row: &[f32]| -> Vec<f64> {
            let mean =
                if center { row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64 } else { 0.0 };
            let square = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width as f64;
            let scaled = |(i, &x): (usize, &f32)| {
                (f64::from(x) - mean) / (square + 1e-6).sqrt() * weight.map_or(1.0, |w| w[i].into())
                    + bias.map_or(0.0, |b| b[i].into())
            };
            row.iter().enumerate().map(scaled).collect()
        };
        x.chunks(width).flat_map(normalized).collect()
    }

    #[test]
    fn norms_agree_with_f64() {
        for (rows, width) in [(3, 1), (2, 7), (5, 16), (3, 100), (2, 4096), (9, 2050)] {
            let mut random = Random::new(width as u64);
            // Far from zero, where a variance by cancellation would fail.
            let x: Vec<f32> = random.values(rows * width).iter().map(|x| x + 3.0).collect();
            let (weight, bias) = (random.values(width), random.values(width));
            let branch = random.values(rows * width);
            for_each_isa(|isa| {
                let what = format!("{isa} [{rows}, {width}]");
                let mut y = vec![0.0; x.len()];
                for weight in [None, Some(&weight[..])] {
                    rms_norm(&x, width, weight, 1e-6, &mut y);
                    assert_close(&y, &reference(&x, width, false, weight, None), 1.0, 1e-6, &what);
                    layer_norm(&x, width, weight, Some(&bias), 1e-6, &mut y);
                    // At a width of 1 the deviation is 0, and what is rounded off is divided by sqrt(eps).
                    let tolerance = if width == 7 { 4e-6 } else { 2e-6 };
                    assert_close(&y, &reference(&x, width, true, weight, Some(&bias)), 1.0, tolerance, &what);
                }
                let mut residual = x.clone();
                add_rms_norm(&mut residual, &branch, width, Some(&weight), 1e-6, &mut y);
                let added: Vec<f32> = x.iter().zip(&branch).map(|(x, y)| x + y).collect();
                assert_eq!(residual, added);
                assert_close(&y, &reference(&added, width, false, Some(&weight), None), 1.0, 1e-6, &what);
                let mut sum = x.clone();
                add(&mut sum, &branch);
                assert_eq!(sum, added);
            });
        }
    }

    #[test]
    fn no_rows_are_fine() {
        rms_norm(&[], 4, None, 1e-6, &mut []);
        layer_norm(&[], 0, None, None, 1e-6, &mut []);
        add_rms_norm(&mut [], &[], 4, None, 1e-6, &mut []);
    }
}
