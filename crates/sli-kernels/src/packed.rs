//! Packed samples: sample `s` owns rows `offsets[s]..offsets[s + 1]`.

use rayon::prelude::*;

/// Panics where offsets do not run from 0 to `rows` without going back.
pub(crate) fn check_offsets(name: &str, offsets: &[usize], rows: usize) {
    assert!(
        offsets.first() == Some(&0) && offsets.last() == Some(&rows) && offsets.is_sorted(),
        "{name}: the offsets do not run from 0 to {rows}"
    );
}

/// A part of a recurrence that no other part has to wait for: some columns of a head, through a sample.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// The sample's first token, and the one past its last.
    pub(crate) tokens: (usize, usize),
    pub(crate) head: usize,
    /// The first of its columns.
    pub(crate) first: usize,
}

/// Calls `work` for all parts of packed samples, in parallel: for each sample and head, for each `most` of its `columns`.
pub(crate) fn for_each_part_of_heads(
    offsets: &[usize],
    heads: usize,
    columns: usize,
    most: usize,
    work: impl Fn(Part) + Sync,
) {
    let parts = columns.div_ceil(most);
    (0..(offsets.len() - 1) * heads * parts).into_par_iter().for_each(|task| {
        let (sample, head, part) = (task / parts / heads, task / parts % heads, task % parts);
        work(Part { tokens: (offsets[sample], offsets[sample + 1]), head, first: part * most });
    });
}
