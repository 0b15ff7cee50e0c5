//! Splitting rows over threads.

use rayon::prelude::*;

/// Values below which a second thread costs more than it saves.
const SERIAL: usize = 1 << 14;

/// Rows of `width` that make a task large enough.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (SERIAL / width.max(1)).max(1)
}

/// Calls `work(first row, rows)` for parts of `y`, whole rows each, in parallel.
pub(crate) fn for_each_part(y: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = rows_per_task(width);
    if y.len() <= rows * width {
        work(0, y);
    } else {
        y.par_chunks_mut(rows * width).enumerate().for_each(|(part, y)| work(part * rows, y));
    }
}

/// As [`for_each_part`], for two slices with rows of the same width.
pub(crate) fn for_each_part2(
    x: &mut [f32],
    y: &mut [f32],
    width: usize,
    work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let rows = rows_per_task(width);
    if y.len() <= rows * width {
        work(0, x, y);
    } else {
        x.par_chunks_mut(rows * width)
            .zip(y.par_chunks_mut(rows * width))
            .enumerate()
            .for_each(|(part, (x, y))| work(part * rows, x, y));
    }
}
