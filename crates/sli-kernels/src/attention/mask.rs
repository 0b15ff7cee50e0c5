//! Which keys a query sees, and what is added to its scores.

use std::ops::Range;

use super::Disentangled;

/// Which keys a query sees. i is the position of the query within its sample, j that of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// `j <= i`
    Causal,
    /// `i - w < j <= i`: the query itself and the w - 1 keys before it.
    CausalWindow(usize),
    /// `j <= i` or `j < p`: the first p keys are seen by every query.
    Prefix(usize),
    /// Every key of the sample.
    Bidirectional,
    /// `|i - j| <= w`
    BidirectionalWindow(usize),
    /// `j <= i` within chunks of c positions: `i / c == j / c`.
    Chunked(usize),
    /// `j <= i` in blocks of positions: the `local` blocks up to the query's own, and of those before them each block b
    /// in which `b + head * shift + 1` is a multiple of `stride`.
    Strided {
        /// Positions of a block.
        block: usize,
        /// Blocks up to the query's own.
        local: usize,
        /// One of so many blocks before them is seen.
        stride: usize,
        /// How far apart the patterns of neighbouring heads lie.
        shift: usize,
    },
}

impl Mask {
    /// The visible keys of a query, of `keys` there are, but for those before that are always visible. With growing i
    /// neither end goes back.
    pub(super) fn visible(self, i: usize, keys: usize) -> Range<usize> {
        let (first, end) = match self {
            Mask::Causal => (0, i + 1),
            Mask::CausalWindow(w) => ((i + 1).saturating_sub(w), i + 1),
            Mask::Prefix(p) => (0, p.max(i + 1)),
            Mask::Bidirectional => (0, keys),
            Mask::BidirectionalWindow(w) => (i.saturating_sub(w), i.saturating_add(w).saturating_add(1)),
            Mask::Chunked(c) => (i - i % c.max(1), i + 1),
            Mask::Strided { block, local, .. } => {
                (((i / block.max(1) + 1).saturating_sub(local)) * block, i + 1)
            }
        };
        first.min(keys)..end.min(keys)
    }

    /// Is key j also seen by the queries of this head that are so far behind that it is not [`Mask::visible`] to them?
    pub(super) fn is_always_visible(self, head: usize, j: usize) -> bool {
        match self {
            Mask::Strided { block, stride, shift, .. } => {
                (j / block.max(1) + head * shift + 1).is_multiple_of(stride)
            }
            _ => false,
        }
    }

    /// The first key that any query from `i` on may see.
    pub(super) fn begin(self, i: usize, keys: usize) -> usize {
        match self {
            Mask::Strided { .. } => 0,
            _ => self.visible(i, keys).start,
        }
    }
}

/// What is added to the scaled scores.
#[derive(Clone, Copy, Debug)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// Attention with linear biases (Press et al. 2021).
    Alibi {
        /// One for each head.
        slopes: &'a [f32],
        /// `-slope * |i - j|` in place of `slope * (j - i)`.
        symmetric: bool,
    },
    /// A value for each head and distance, `table[h * span + (j - i - first)]`. Distances below `first` use the
    /// first value of the head, those from `first + span` on the last.
    Distance {
        /// `[heads, span]`.
        table: &'a [f32],
        /// Distances in the table.
        span: usize,
        /// The distance `j - i` that the table begins with.
        first: isize,
    },
    /// Not after but before the scale: what depends on the distance and on the query or the key.
    Disentangled(Disentangled<'a>),
    /// A value for each head and key, `table[h * span + j]`, whatever the query.
    Key {
        /// `[heads, span]`.
        table: &'a [f32],
        /// Keys in the table, at least as many as any sample has.
        span: usize,
    },
}
