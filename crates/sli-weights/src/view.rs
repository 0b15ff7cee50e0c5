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
            LoadOp::JoinLast { size } => {
                let [_, .., before, last] = self.axes.as_mut_slice() else {
                    return Err(format!("a last axis of {size} in a tensor of shape {:?}", self.shape()));
                };
                if last.len() != size {
                    return Err(format!("a last axis of {size} in a tensor of shape {:?}", self.shape()));
                }
                *before = before.iter().flat_map(|start| last.iter().map(move |step| start + step)).collect();
                self.axes.pop();
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
            LoadOp::JoinColumns { parts } => {
                let [all, columns] = self.axes.as_mut_slice() else {
                    return Err(format!("parts of a matrix in a tensor of shape {:?}", self.shape()));
                };
                if rows * parts != all.len() {
                    return Err(format!("{rows} rows of {parts} parts, of {first} rows"));
                }
                let starts = all.chunks(rows.max(1)).map(|part| part[0] - all[0]);
                *columns =
                    starts.flat_map(|start| columns.iter().map(move |column| start + column)).collect();
                all.truncate(rows);
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
mod tests;
