//! Moving rows: to the experts that handle them and back, and together into heads.

use rayon::prelude::*;

use crate::isa::{Kernel, dispatch, isa};
use crate::parallel::{for_each_part, rows_per_task};
use crate::simd::Simd;

/// `out[i] = x[rows[i]]`, rows of `width`.
///
/// # Panics
/// Where a row is out of range or `out` is not `[rows.len(), width]`.
pub fn gather_rows(x: &[f32], width: usize, rows: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), rows.len() * width, "gather_rows: out is not [{}, {width}]", rows.len());
    if out.is_empty() {
        return;
    }
    for_each_part(out, width, |first, out| {
        for (out, &row) in out.chunks_exact_mut(width).zip(&rows[first..]) {
            out.copy_from_slice(&x[row as usize * width..][..width]);
        }
    });
}

/// `out[rows[i]] += scale[i] * x[i]`, rows of `width`; no row occurs twice.
///
/// # Panics
/// Where a row occurs twice or is out of range, or the lengths do not fit together.
pub fn scatter_add_rows(x: &[f32], width: usize, rows: &[u32], scale: &[f32], out: &mut [f32]) {
    struct AddScaled<'a>(&'a [f32], f32, &'a mut [f32]);
    impl Kernel for AddScaled<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _s: S) {
            for (out, x) in self.2.iter_mut().zip(self.0) {
                *out += self.1 * x;
            }
        }
    }
    assert_eq!(x.len(), rows.len() * width, "scatter_add_rows: x is not [{}, {width}]", rows.len());
    assert_eq!(scale.len(), rows.len(), "scatter_add_rows: there is not one scale for each row");
    if x.is_empty() {
        return;
    }
    // For each row of out, the row of x that goes there: threads then own rows of out.
    const NONE: u32 = u32::MAX;
    let mut source = vec![NONE; out.len() / width];
    for (i, &row) in rows.iter().enumerate() {
        assert_eq!(source[row as usize], NONE, "scatter_add_rows: row {row} occurs twice");
        source[row as usize] = i as u32;
    }
    let (isa, part) = (isa(), rows_per_task(width));
    out.par_chunks_mut(part * width).zip(source.par_chunks(part)).for_each(|(out, source)| {
        for (out, &i) in out.chunks_exact_mut(width).zip(source).filter(|(_, i)| **i != NONE) {
            let i = i as usize;
            dispatch(isa, AddScaled(&x[i * width..][..width], scale[i], out));
        }
    });
}

/// Rows of `heads` heads, each of which is the row of `shared` `[rows, lead]` and then the head's part of `own`
/// `[rows, heads * width]`.
///
/// # Panics
/// Where `out` is not `[rows, heads * (lead + width)]` or the others do not have as many rows.
pub fn lead_heads(shared: &[f32], lead: usize, own: &[f32], width: usize, heads: usize, out: &mut [f32]) {
    let row = heads * (lead + width);
    let rows = out.len() / row.max(1);
    assert_eq!(out.len(), rows * row, "lead_heads: out is not rows of {row}");
    assert_eq!((shared.len(), own.len()), (rows * lead, rows * heads * width), "lead_heads: lengths differ");
    if out.is_empty() {
        return;
    }
    for_each_part(out, row, |first, out| {
        for (i, out) in out.chunks_exact_mut(row).enumerate() {
            let (shared, own) = (&shared[(first + i) * lead..][..lead], &own[(first + i) * heads * width..]);
            for (head, out) in out.chunks_exact_mut(lead + width).enumerate() {
                out[..lead].copy_from_slice(shared);
                out[lead..].copy_from_slice(&own[head * width..][..width]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::tests::for_each_isa;
    use crate::testing::Random;

    #[test]
    fn what_is_gathered_can_be_scattered() {
        for width in [1, 7, 64, 3000] {
            let x = Random::new(1).values(20 * width);
            let rows = [3u32, 19, 0, 7];
            for_each_isa(|_| {
                let mut picked = vec![0.0; 4 * width];
                gather_rows(&x, width, &rows, &mut picked);
                for (i, &row) in rows.iter().enumerate() {
                    assert_eq!(picked[i * width..][..width], x[row as usize * width..][..width]);
                }
                let mut out = vec![1.0; 20 * width];
                scatter_add_rows(&picked, width, &rows, &[2.0, 0.5, 1.0, -1.0], &mut out);
                for (row, out) in out.chunks(width).enumerate() {
                    let place = rows.iter().position(|&r| r as usize == row);
                    let scale = place.map_or(0.0, |place| [2.0, 0.5, 1.0, -1.0][place]);
                    for (out, x) in out.iter().zip(&x[row * width..]) {
                        assert_eq!(*out, 1.0 + scale * x);
                    }
                }
            });
        }
        gather_rows(&[], 4, &[], &mut []);
        scatter_add_rows(&[], 4, &[], &[], &mut []);
    }

    #[test]
    fn heads_begin_with_what_they_share() {
        let (shared, own) = ([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]);
        let mut out = [0.0; 12];
        lead_heads(&shared, 2, &own, 1, 2, &mut out);
        assert_eq!(out, [1.0, 2.0, 10.0, 1.0, 2.0, 20.0, 3.0, 4.0, 30.0, 3.0, 4.0, 40.0]);
        lead_heads(&[], 2, &[], 1, 2, &mut []);
    }

    #[test]
    #[should_panic(expected = "row 1 occurs twice")]
    fn a_row_that_occurs_twice_is_refused() {
        scatter_add_rows(&[0.0; 4], 2, &[1, 1], &[1.0; 2], &mut [0.0; 4]);
    }
}
