//! Memory of which parts are lent, whole or cut into smaller ones.

use std::iter;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::aligned::{AlignedBuffer, BLOCK, HUGE_PAGE};

/// A buffer and which of its bytes are lent.
pub(crate) struct Slab {
    start: NonNull<u8>,
    bytes: usize,
    /// Owns the memory, which is reached only through parts that are lent.
    _buffer: AlignedBuffer,
    /// Runs of bytes that are not lent, in order, with others between them.
    free: Mutex<Vec<Range<usize>>>,
}

// SAFETY: `start` points to memory that may be used from any thread; it is reached only through parts, which do not
// overlap.
unsafe impl Send for Slab {}
// SAFETY: as above; the runs are behind a lock.
unsafe impl Sync for Slab {}

impl Slab {
    /// At least `bytes` bytes, none of them lent.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let mut buffer = AlignedBuffer::new(bytes);
        let (start, bytes) = (NonNull::from(&mut *buffer).cast(), buffer.len());
        let free = Mutex::new(iter::once(0..bytes).collect());
        Arc::new(Self { start, bytes, _buffer: buffer, free })
    }

    /// Its size, lent or not.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Is nothing of it lent?
    pub(crate) fn is_idle(&self) -> bool {
        matches!(&self.free()[..], [run] if run.len() == self.bytes)
    }

    /// Lends so many bytes, with any contents; `None` when it has no such run. Large parts start at large pages.
    pub(crate) fn lend(self: &Arc<Self>, bytes: usize) -> Option<Part> {
        let alignment = if bytes < HUGE_PAGE { BLOCK } else { HUGE_PAGE };
        let mut free = self.free();
        let (index, run) = free.iter().enumerate().find_map(|(index, run)| {
            let start = run.start.next_multiple_of(alignment);
            (start + bytes <= run.end).then_some((index, start..start + bytes))
        })?;
        let whole = free[index].clone();
        let rests = [whole.start..run.start, run.end..whole.end];
        free.splice(index..=index, rests.into_iter().filter(|rest| !rest.is_empty()));
        drop(free);
        Some(Part { slab: self.clone(), range: run })
    }

    fn give_back(&self, range: &Range<usize>) {
        let mut free = self.free();
        let index = free.partition_point(|run| run.start < range.start);
        free.insert(index, range.clone());
        // Runs that touch become one.
        let first = index.saturating_sub(1);
        let touching = (first + 1..free.len().min(index + 2)).rev();
        for second in touching {
            if free[second - 1].end == free[second].start {
                free[second - 1].end = free[second].end;
                free.remove(second);
            }
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Range<usize>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a slab that nobody else has. They are the slab's again when it is dropped.
pub(crate) struct Part {
    slab: Arc<Slab>,
    range: Range<usize>,
}

impl Part {
    /// What it is a part of.
    pub(crate) fn slab(&self) -> &Arc<Slab> {
        &self.slab
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the slab, which lives as long as `self`, and is no part of any other part; its bytes
        // were zero when mapped and change only through `&mut self`.
        unsafe {
            std::slice::from_raw_parts(self.slab.start.as_ptr().add(self.range.start), self.range.len())
        }
    }
}

impl DerefMut for Part {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(self.slab.start.as_ptr().add(self.range.start), self.range.len())
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.slab.give_back(&self.range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap_and_come_back_in_any_order() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let slab = Slab::new(4 * BLOCK);
            let mut parts: Vec<_> = (0..3).map(|_| slab.lend(BLOCK)).collect();
            for (index, part) in parts.iter_mut().flatten().enumerate() {
                part.fill(index as u8 + 1);
            }
            for (index, part) in parts.iter().flatten().enumerate() {
                assert!(part.iter().all(|byte| *byte == index as u8 + 1));
            }
            assert!(slab.lend(2 * BLOCK).is_none(), "one block is left");
            for index in order {
                assert!(!slab.is_idle());
                parts[index] = None;
            }
            assert!(slab.is_idle());
            assert!(slab.lend(4 * BLOCK).is_some());
        }
    }

    #[test]
    fn large_parts_start_at_large_pages() {
        let slab = Slab::new(3 * HUGE_PAGE);
        let small = slab.lend(BLOCK).unwrap();
        let large = slab.lend(HUGE_PAGE + BLOCK).unwrap();
        assert!((large.as_ptr() as usize).is_multiple_of(HUGE_PAGE));
        assert_eq!(
            slab.lend(BLOCK).unwrap().as_ptr() as usize,
            small.as_ptr() as usize + BLOCK,
            "in the gap"
        );
        drop(small);
        drop(large);
        assert!(slab.is_idle());
    }
}
