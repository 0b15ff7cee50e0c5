//! How the layout of a stored tensor is undone.

/// A step from what is stored to what the code expects. Steps that keep rows together cost nothing; others copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadOp {
    /// The slab at the index of the role (an expert, a head) of the first dimension, which has `count` of them:
    /// [count, ...] -> [...].
    SelectExpert {
        /// Size of the first dimension as stored.
        count: usize,
    },
    /// Of each of `groups` blocks of `block` rows, the rows from `start` on, as many as are needed.
    /// One group: a plain slice of a fused matrix. Several: fused per head or per group of heads.
    TakeRows {
        /// Blocks in the stored matrix.
        groups: usize,
        /// Rows of a block.
        block: usize,
        /// First row taken of each block.
        start: usize,
    },
    /// [in, out] -> [out, in].
    Transpose,
    /// Matrices that follow one another, side by side: [parts * rows, columns / parts] -> [rows, columns].
    JoinColumns {
        /// How many there are.
        parts: usize,
    },
    /// Removes a dimension of size one, as in [C, 1, K] -> [C, K].
    DropAxis(usize),
    /// The last dimension, of this size, runs within that before it: [R, C / size, size] -> [R, C].
    JoinLast {
        /// Size of the last dimension as stored.
        size: usize,
    },
    /// w -> 1 + w: norms that store the offset from one.
    AddOne,
    /// From pairs of neighbours to rotate-half, within each head of `head_dim` rows: rows 0, 2, 4, ... and then
    /// 1, 3, 5, ... of the first `rotary_dim`.
    UnpermuteRope {
        /// Rows of a head.
        head_dim: usize,
        /// How many of them are rotated.
        rotary_dim: usize,
    },
    /// From two rotations side by side, each rotate-half in its half of the head, to one over the whole head: the
    /// second and the third quarter of each head of `head_dim` rows change places.
    JoinRopeHalves {
        /// Rows of a head, a multiple of four.
        head_dim: usize,
    },
    /// The last `last` rows of each block of `block` rows come first.
    LastFirst {
        /// Rows of a block.
        block: usize,
        /// How many of them change places with the others.
        last: usize,
    },
    /// To -1, 0 and 1, the nearest to each element's share of the mean magnitude, and that mean as their scale (BitNet).
    Ternary,
    /// Those are stored already, with a scale that they are divided by, or else multiplied.
    TernaryCodes {
        /// Are they divided by it?
        divided: bool,
    },
    /// The rows of this expert (or group), where those of `count` experts follow one another.
    ExpertRows {
        /// Experts in the stored tensor.
        count: usize,
    },
}

impl std::fmt::Display for LoadOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SelectExpert { count } => write!(f, "this expert of {count}"),
            Self::TakeRows { groups: 1, start, .. } => write!(f, "rows from {start} on"),
            Self::TakeRows { groups, block, start } => {
                write!(f, "rows from {start} on of each of {groups} blocks of {block}")
            }
            Self::Transpose => f.write_str("transposed"),
            Self::JoinColumns { parts } => write!(f, "{parts} parts side by side"),
            Self::DropAxis(axis) => write!(f, "without axis {axis}"),
            Self::JoinLast { size } => write!(f, "the last axis of {size} within the one before"),
            Self::AddOne => f.write_str("plus one"),
            Self::UnpermuteRope { rotary_dim, .. } => write!(f, "pairs of neighbours apart in {rotary_dim}"),
            Self::JoinRopeHalves { .. } => f.write_str("inner quarters of heads exchanged"),
            Self::LastFirst { block, last } => write!(f, "the last {last} of each {block} rows first"),
            Self::Ternary => f.write_str("rounded to -1, 0 and 1 times the mean magnitude"),
            Self::TernaryCodes { divided: true } => f.write_str("-1, 0 and 1 divided by the scale"),
            Self::TernaryCodes { divided: false } => f.write_str("-1, 0 and 1 times the scale"),
            Self::ExpertRows { count } => write!(f, "the rows of this expert of {count}"),
        }
    }
}

impl LoadOp {
    /// The shape that must be stored for `shape` to come out.
    pub fn stored_shape(self, mut shape: Vec<usize>) -> Vec<usize> {
        match self {
            Self::SelectExpert { count } => shape.insert(0, count),
            Self::TakeRows { groups, block, .. } => shape[0] = groups * block,
            Self::Transpose => shape.reverse(),
            Self::JoinColumns { parts } => {
                shape[0] *= parts;
                shape.iter_mut().skip(1).for_each(|columns| *columns /= parts.max(1));
            }
            Self::DropAxis(axis) => shape.insert(axis, 1),
            Self::JoinLast { size } => {
                if let Some(last) = shape.last_mut() {
                    *last /= size.max(1);
                }
                shape.push(size);
            }
            Self::ExpertRows { count } => shape[0] *= count,
            Self::AddOne
            | Self::UnpermuteRope { .. }
            | Self::JoinRopeHalves { .. }
            | Self::LastFirst { .. }
            | Self::Ternary
            | Self::TernaryCodes { .. } => {}
        }
        shape
    }
}
