//! A stored tensor seen through its load operations.
//!
//! The operations only choose and reorder elements, so any number of them is one gather: per dimension the offsets of
//! the steps that are taken. That gather is done in one copy, or in none where the elements already lie in order, and
//! it says which bytes are needed at all: an expert of a fused tensor, or a slice of a fused matrix, is read alone.

use std::ops::Range;

use sli_core::LoadOp;

/// Which elements of a stored tensor make up the tensor that is wanted, in which order.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Per dimension, slowest first: the offset in elements of each step. The offset of an element is the sum over
    /// the dimensions.
    axes: Vec<Vec<usize>>,
}

impl View {
    /// All elements of a tensor of this shape.
    pub(crate) fn whole(shape: &[usize]) -> Self {
        let mut stride = 1;
        let mut axes: Vec<Vec<usize>> = Vec::with_capacity(shape.len());
        for size in shape.iter().rev() {
            axes.push((0..*size).map(|i| i * stride).collect());
            stride *= size;
        }
        axes.reverse();
        Self { axes }
    }

    /// The view after one more operation. `rows` is the number of rows that it leaves; `expert` the one to select.
    ///
    /// # Errors
    /// Says in words why the operation does not fit the shape.
    pub(crate) fn after(mut self, op: LoadOp, rows: usize, expert: Option<u32>) -> Result<Self, String> {
        let first = self.axes.first().map_or(0, Vec::len);
        match op {
            LoadOp::SelectExpert { count } => {
                let expert = expert.ok_or("an expert is selected for a tensor of no expert")? as usize;
                if first != count || expert >= count || self.axes.len() == 1 {
                    return Err(format!(
                        "expert {expert} of {count} in a tensor of shape {:?}",
                        self.shape()
                    ));
                }
                let offset = self.axes.remove(0)[expert];
                self.shift(offset);
            }
            LoadOp::TakeRows { groups, block, start } => {
                let taken = rows / groups.max(1);
                if groups * block != first || taken * groups != rows || start + taken > block {
                    return Err(format!(
                        "{rows} rows from row {start} on, of {groups} blocks of {block} rows"
                    ));
                }
                self.reorder_rows((0..groups).flat_map(|group| {
                    let from = group * block + start;
                    from..from + taken
                }));
            }
            LoadOp::Transpose => self.axes.reverse(),
            LoadOp::DropAxis(axis) => {
                if self.axes.get(axis).map(Vec::len) != Some(1) || self.axes.len() == 1 {
                    return Err(format!("dimension {axis} is dropped but has not size one"));
                }
                let offset = self.axes.remove(axis)[0];
                self.shift(offset);
            }
            LoadOp::UnpermuteRope { head_dim, rotary_dim } => {
                let fits = head_dim > 0 && first.is_multiple_of(head_dim);
                if !fits || rotary_dim > head_dim || !rotary_dim.is_multiple_of(2) {
                    return Err(format!("{rotary_dim} rotated rows in heads of {head_dim}, of {first} rows"));
                }
                let in_head = |row: usize| match row {
                    row if row >= rotary_dim => row,
                    row if row < rotary_dim / 2 => 2 * row,
                    row => 2 * row - rotary_dim + 1,
                };
                self.reorder_rows((0..first).map(|row| row - row % head_dim + in_head(row % head_dim)));
            }
            LoadOp::JoinRopeHalves { head_dim } => {
                if !head_dim.is_multiple_of(4) || head_dim == 0 || !first.is_multiple_of(head_dim) {
                    return Err(format!("two rotations in heads of {head_dim}, of {first} rows"));
                }
                let quarter = head_dim / 4;
                let in_head = |row: usize| match row / quarter {
                    1 => row + quarter,
                    2 => row - quarter,
                    _ => row,
                };
                self.reorder_rows((0..first).map(|row| row - row % head_dim + in_head(row % head_dim)));
            }
            LoadOp::LastFirst { block, last } => {
                if block == 0 || !first.is_multiple_of(block) || last > block {
                    return Err(format!("the last {last} rows of blocks of {block}, of {first} rows"));
                }
                let in_block = |row: usize| (row + block - last) % block;
                self.reorder_rows((0..first).map(|row| row - row % block + in_block(row % block)));
            }
            LoadOp::ExpertRows { count } => {
                let expert = expert.ok_or("an expert is selected for a tensor of no expert")? as usize;
                if rows * count != first || expert >= count {
                    return Err(format!("{rows} rows of expert {expert} of {count}, of {first} rows"));
                }
                self.reorder_rows(expert * rows..(expert + 1) * rows);
            }
            LoadOp::AddOne | LoadOp::Ternary | LoadOp::TernaryCodes { .. } => {}
        }
        Ok(self)
    }

    /// Some of the rows.
    pub(crate) fn rows(mut self, rows: Range<usize>) -> Self {
        self.reorder_rows(rows);
        self
    }

    /// The offsets of the steps of a dimension.
    pub(crate) fn axis(&self, index: usize) -> &[usize] {
        &self.axes[index]
    }

    /// Sizes of the dimensions.
    pub(crate) fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(Vec::len).collect()
    }

    /// From the first to the last element that is needed.
    pub(crate) fn span(&self) -> Range<usize> {
        let ends = self.axes.iter().map(|axis| {
            let (first, last) = (axis.iter().min()?, axis.iter().max()?);
            Some((*first, *last))
        });
        let ends = ends.collect::<Option<Vec<_>>>();
        ends.map_or(0..0, |ends| ends.iter().map(|e| e.0).sum()..ends.iter().map(|e| e.1).sum::<usize>() + 1)
    }

    /// Do the elements lie one after another already?
    pub(crate) fn is_in_order(&self) -> bool {
        let mut stride = 1;
        self.axes.iter().rev().all(|axis| {
            let in_order = axis.windows(2).all(|pair| pair[0] + stride == pair[1]);
            stride *= axis.len();
            in_order
        })
    }

    /// Where each row starts, counted from the start of [`View::span`]. `None` when rows do not lie in one piece.
    pub(crate) fn row_starts(&self) -> Option<Vec<usize>> {
        let (rows, row) = self.axes.split_first()?;
        let row = Self { axes: row.to_vec() };
        let offset = self.span().start - row.span().start;
        row.is_in_order().then(|| rows.iter().map(|start| start - offset).collect())
    }

    /// Copies the elements in order. `stored` begins with the first element of [`View::span`]; an element has
    /// `element_size` bytes, and neither side needs to be aligned for it.
    pub(crate) fn gather(&self, element_size: usize, stored: &[u8], out: &mut [u8]) {
        match element_size {
            1 => self.gather_elements::<1>(stored, out),
            2 => self.gather_elements::<2>(stored, out),
            4 => self.gather_elements::<4>(stored, out),
            _ => self.gather_elements::<8>(stored, out),
        }
    }

    fn gather_elements<const SIZE: usize>(&self, stored: &[u8], out: &mut [u8]) {
        let (stored, out) = (stored.as_chunks::<SIZE>().0, out.as_chunks_mut::<SIZE>().0);
        const ONE: &[usize] = &[0];
        let (outer, rows, columns): (&[Vec<usize>], &[usize], &[usize]) = match self.axes.as_slice() {
            [] => (&[], ONE, ONE),
            [columns] => (&[], ONE, columns),
            [outer @ .., rows, columns] => (outer, rows, columns),
        };
        let start = self.span().start;
        let mut bases = vec![0];
        for axis in outer {
            bases = bases.iter().flat_map(|base| axis.iter().map(move |offset| base + offset)).collect();
        }
        let size = (rows.len() * columns.len()).max(1);
        for (base, out) in bases.into_iter().zip(out.chunks_exact_mut(size)) {
            gather_matrix(stored, base, start, rows, columns, out);
        }
    }

    fn reorder_rows(&mut self, order: impl IntoIterator<Item = usize>) {
        self.axes[0] = order.into_iter().map(|row| self.axes[0][row]).collect();
    }

    /// Adds the offset of a dimension that is gone.
    fn shift(&mut self, offset: usize) {
        for step in &mut self.axes[0] {
            *step += offset;
        }
    }
}

/// out[r][c] = stored[base + rows[r] + columns[c] - start].
fn gather_matrix<const SIZE: usize>(
    stored: &[[u8; SIZE]],
    base: usize,
    start: usize,
    rows: &[usize],
    columns: &[usize],
    out: &mut [[u8; SIZE]],
) {
    let width = columns.len();
    if columns.windows(2).all(|pair| pair[0] + 1 == pair[1]) {
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
            let from = base + row + columns[0] - start;
            out.copy_from_slice(&stored[from..from + width]);
        }
        return;
    }
    // A matrix is turned square by square, in a buffer that stays in the cache: what is read and what is written
    // jumps from row to row, and each jump should be worth its while.
    let side = 256 / SIZE;
    let mut square = vec![[0; SIZE]; side * side];
    for (rows, out) in rows.chunks(side).zip(out.chunks_mut(side * width)) {
        for (columns, first) in columns.chunks(side).zip((0..).step_by(side)) {
            for (c, column) in columns.iter().enumerate() {
                for (line, row) in square.chunks_exact_mut(side).zip(rows) {
                    line[c] = stored[base + column + row - start];
                }
            }
            for (line, out) in square.chunks_exact(side).zip(out.chunks_exact_mut(width)) {
                out[first..][..columns.len()].copy_from_slice(&line[..columns.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tensor for a naive, separate implementation of each operation.
    #[derive(Clone, Debug, PartialEq)]
    struct Naive {
        shape: Vec<usize>,
        values: Vec<u32>,
    }

    impl Naive {
        fn counted(shape: &[usize]) -> Self {
            Self { shape: shape.to_vec(), values: (0..shape.iter().product::<usize>() as u32).collect() }
        }

        fn row(&self, index: usize) -> &[u32] {
            let width = self.values.len() / self.shape[0];
            &self.values[index * width..][..width]
        }

        fn rows(&self, rows: &[usize]) -> Self {
            let mut shape = self.shape.clone();
            shape[0] = rows.len();
            Self { shape, values: rows.iter().flat_map(|row| self.row(*row)).copied().collect() }
        }

        fn after(&self, op: LoadOp, rows: usize, expert: usize) -> Self {
            match op {
                LoadOp::SelectExpert { .. } => {
                    Self { shape: self.shape[1..].to_vec(), values: self.row(expert).to_vec() }
                }
                LoadOp::TakeRows { groups, block, start } => {
                    let mut taken = Vec::new();
                    for group in 0..groups {
                        for row in 0..rows / groups {
                            taken.push(group * block + start + row);
                        }
                    }
                    self.rows(&taken)
                }
                LoadOp::Transpose => {
                    let [height, width] = self.shape[..] else { panic!("a matrix is turned") };
                    let mut values = Vec::new();
                    for column in 0..width {
                        for row in 0..height {
                            values.push(self.values[row * width + column]);
                        }
                    }
                    Self { shape: vec![width, height], values }
                }
                LoadOp::DropAxis(axis) => {
                    let mut shape = self.shape.clone();
                    assert_eq!(shape.remove(axis), 1);
                    Self { shape, values: self.values.clone() }
                }
                LoadOp::UnpermuteRope { head_dim, rotary_dim } => {
                    let mut order = Vec::new();
                    for head in (0..self.shape[0]).step_by(head_dim) {
                        order.extend((0..rotary_dim).step_by(2).map(|row| head + row));
                        order.extend((1..rotary_dim).step_by(2).map(|row| head + row));
                        order.extend((rotary_dim..head_dim).map(|row| head + row));
                    }
                    self.rows(&order)
                }
                LoadOp::JoinRopeHalves { head_dim } => {
                    let quarters = |head: usize| [0, 2, 1, 3].map(|quarter| head + quarter * head_dim / 4);
                    let starts = (0..self.shape[0]).step_by(head_dim).flat_map(quarters);
                    let order: Vec<_> = starts.flat_map(|start| start..start + head_dim / 4).collect();
                    self.rows(&order)
                }
                LoadOp::LastFirst { block, last } => {
                    let mut order = Vec::new();
                    for start in (0..self.shape[0]).step_by(block) {
                        order.extend(start + block - last..start + block);
                        order.extend(start..start + block - last);
                    }
                    self.rows(&order)
                }
                LoadOp::ExpertRows { count } => {
                    let each = self.shape[0] / count;
                    self.rows(&(expert * each..(expert + 1) * each).collect::<Vec<_>>())
                }
                LoadOp::AddOne | LoadOp::Ternary | LoadOp::TernaryCodes { .. } => self.clone(),
            }
        }
    }

    const EXPERT: u32 = 2;

    /// A view of a counted tensor after some steps, each with the rows that it leaves, and what it should hold.
    fn viewed(stored: &[usize], ops: &[(LoadOp, usize)]) -> (View, Naive) {
        let mut view = View::whole(stored);
        let mut naive = Naive::counted(stored);
        for (op, rows) in ops {
            view = view.after(*op, *rows, Some(EXPERT)).unwrap();
            naive = naive.after(*op, *rows, EXPERT as usize);
        }
        assert_eq!(view.shape(), naive.shape);
        (view, naive)
    }

    fn gathered(view: &View, stored: &[usize]) -> Vec<u32> {
        let values = Naive::counted(stored).values;
        let mut out = vec![0u32; view.shape().iter().product()];
        view.gather(4, bytemuck::cast_slice(&values[view.span()]), bytemuck::cast_slice_mut(&mut out));
        out
    }

    #[test]
    fn every_chain_of_steps_agrees_with_the_steps_one_by_one() {
        use LoadOp::{
            AddOne, DropAxis, ExpertRows, JoinRopeHalves, LastFirst, SelectExpert, TakeRows, Transpose,
            UnpermuteRope,
        };
        let rope = UnpermuteRope { head_dim: 8, rotary_dim: 4 };
        let slice = TakeRows { groups: 1, block: 48, start: 16 };
        let per_head = TakeRows { groups: 2, block: 24, start: 8 };
        let interleaved = TakeRows { groups: 24, block: 2, start: 1 };
        let experts = SelectExpert { count: 4 };
        type Chain<'a> = (&'a [usize], &'a [(LoadOp, usize)]);
        let last_first =
            [(LastFirst { block: 12, last: 4 }, 24), (UnpermuteRope { head_dim: 12, rotary_dim: 4 }, 24)];
        let chains: [Chain; 19] = [
            (&[4, 8], &[(experts, 8), (rope, 8)]),
            (&[24, 3], &last_first),
            (&[48, 3], &[(ExpertRows { count: 4 }, 12), (Transpose, 3)]),
            (&[32, 3], &[(JoinRopeHalves { head_dim: 16 }, 32)]),
            (&[48], &[(per_head, 16), (JoinRopeHalves { head_dim: 8 }, 16)]),
            (&[5, 7], &[]),
            (&[5], &[(AddOne, 5)]),
            (&[300, 140], &[(Transpose, 140)]),
            (&[48, 3], &[(slice, 16)]),
            (&[48], &[(slice, 16)]),
            (&[48, 3], &[(per_head, 16)]),
            (&[48, 3], &[(per_head, 16), (rope, 16)]),
            (&[5, 48], &[(Transpose, 48), (slice, 16), (rope, 16)]),
            (&[5, 48], &[(Transpose, 48), (interleaved, 24)]),
            (&[6, 1, 4], &[(DropAxis(1), 6)]),
            (&[1, 6, 4], &[(DropAxis(0), 6), (Transpose, 4)]),
            (&[4, 48, 3], &[(experts, 48), (slice, 16)]),
            (&[4, 3, 48], &[(experts, 3), (Transpose, 48), (interleaved, 24)]),
            (&[16, 3], &[(UnpermuteRope { head_dim: 8, rotary_dim: 8 }, 16)]),
        ];
        for (stored, ops) in chains {
            let (view, naive) = viewed(stored, ops);
            assert_eq!(gathered(&view, stored), naive.values, "{stored:?} {ops:?}");
            if view.is_in_order() {
                let first = view.span().start as u32;
                assert_eq!(naive.values, (first..first + naive.values.len() as u32).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn elements_of_any_size_are_moved_whole() {
        for size in [1, 2, 8] {
            let stored: Vec<u8> = (0..6 * size as u8).collect();
            let view = View::whole(&[2, 3]).after(LoadOp::Transpose, 3, None).unwrap();
            let mut out = vec![0; stored.len()];
            view.gather(size, &stored, &mut out);
            let expected = [0, 3, 1, 4, 2, 5].map(|i| &stored[i * size..][..size]).concat();
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn only_what_is_needed_is_spanned() {
        let (view, _) = viewed(&[4, 48, 3], &[(LoadOp::SelectExpert { count: 4 }, 48)]);
        assert_eq!((view.span(), view.is_in_order()), (288..432, true));
        let slice = LoadOp::TakeRows { groups: 1, block: 48, start: 16 };
        let (view, _) = viewed(&[4, 48, 3], &[(LoadOp::SelectExpert { count: 4 }, 48), (slice, 16)]);
        assert_eq!((view.span(), view.is_in_order()), (336..384, true));
        assert_eq!((view.clone().rows(1..3).span(), view.row_starts().unwrap()[2]), (339..345, 6));
        let (view, _) = viewed(&[3, 48], &[(LoadOp::Transpose, 48), (slice, 16)]);
        assert_eq!((view.span(), view.is_in_order(), view.row_starts()), (16..128, false, None));
    }

    #[test]
    fn steps_that_do_not_fit_are_refused() {
        let matrix = || View::whole(&[12, 4]);
        for (op, rows) in [
            (LoadOp::SelectExpert { count: 12 }, 4),
            (LoadOp::SelectExpert { count: 11 }, 4),
            (LoadOp::TakeRows { groups: 5, block: 2, start: 0 }, 5),
            (LoadOp::TakeRows { groups: 2, block: 6, start: 0 }, 3),
            (LoadOp::TakeRows { groups: 2, block: 6, start: 4 }, 6),
            (LoadOp::TakeRows { groups: 0, block: 6, start: 0 }, 12),
            (LoadOp::DropAxis(0), 4),
            (LoadOp::DropAxis(2), 12),
            (LoadOp::UnpermuteRope { head_dim: 0, rotary_dim: 0 }, 12),
            (LoadOp::UnpermuteRope { head_dim: 5, rotary_dim: 4 }, 12),
            (LoadOp::UnpermuteRope { head_dim: 6, rotary_dim: 3 }, 12),
            (LoadOp::UnpermuteRope { head_dim: 6, rotary_dim: 8 }, 12),
            (LoadOp::LastFirst { block: 5, last: 2 }, 12),
            (LoadOp::LastFirst { block: 6, last: 7 }, 12),
            (LoadOp::ExpertRows { count: 5 }, 3),
        ] {
            assert!(matrix().after(op, rows, Some(12)).is_err(), "{op:?}");
        }
        assert!(View::whole(&[4]).after(LoadOp::SelectExpert { count: 4 }, 0, Some(1)).is_err());
        assert!(matrix().after(LoadOp::SelectExpert { count: 12 }, 4, None).is_err());
    }
}
