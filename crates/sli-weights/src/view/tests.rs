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
            LoadOp::JoinLast { size } => {
                let mut shape = self.shape.clone();
                assert_eq!(shape.pop(), Some(size));
                *shape.last_mut().unwrap() *= size;
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
            LoadOp::JoinColumns { parts } => {
                let side_by_side =
                    |row| (0..parts).flat_map(move |part| self.row(part * rows + row).iter().copied());
                let values = (0..rows).flat_map(side_by_side).collect();
                Self { shape: vec![rows, self.shape[1] * parts], values }
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
        AddOne, DropAxis, ExpertRows, JoinColumns, JoinLast, JoinRopeHalves, LastFirst, SelectExpert,
        TakeRows, Transpose, UnpermuteRope,
    };
    let rope = UnpermuteRope { head_dim: 8, rotary_dim: 4 };
    let slice = TakeRows { groups: 1, block: 48, start: 16 };
    let per_head = TakeRows { groups: 2, block: 24, start: 8 };
    let interleaved = TakeRows { groups: 24, block: 2, start: 1 };
    let experts = SelectExpert { count: 4 };
    type Chain<'a> = (&'a [usize], &'a [(LoadOp, usize)]);
    let last_first =
        [(LastFirst { block: 12, last: 4 }, 24), (UnpermuteRope { head_dim: 12, rotary_dim: 4 }, 24)];
    let chains: [Chain; 24] = [
        (&[4, 8], &[(experts, 8), (rope, 8)]),
        (&[24, 3], &last_first),
        (&[48, 3], &[(ExpertRows { count: 4 }, 12), (Transpose, 3)]),
        (&[32, 3], &[(JoinRopeHalves { head_dim: 16 }, 32)]),
        (&[12, 5], &[(JoinColumns { parts: 3 }, 4)]),
        (&[12, 5], &[(JoinColumns { parts: 4 }, 3), (Transpose, 20)]),
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
        (&[5, 7, 3], &[(JoinLast { size: 3 }, 5)]),
        (&[5, 8, 3], &[(JoinLast { size: 3 }, 5), (Transpose, 24)]),
        (&[3, 16], &[(Transpose, 16), (rope, 16), (Transpose, 3)]),
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
        (LoadOp::JoinLast { size: 4 }, 12),
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
