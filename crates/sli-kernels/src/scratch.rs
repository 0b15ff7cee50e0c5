//! Working memory that is aligned to cache lines, and a piece of it that each thread keeps.

use std::cell::RefCell;

use crate::product::LINE;

/// Working memory that a thread which calls kernels keeps at most, in bytes, while products sum over at most 32768
/// columns (65536 where inputs are rounded to bf16). Longer ones pack 64 rows at a time still: 256 bytes a column.
pub const SCRATCH_BYTES: usize = 8 << 20;

/// f32 values (or the bits of other 32-bit units) that begin on a cache line.
#[derive(Default)]
pub(crate) struct Buffer {
    values: Vec<f32>,
    first: usize,
    length: usize,
}

impl Buffer {
    const EMPTY: Self = Self { values: Vec::new(), first: 0, length: 0 };

    /// `length` zeros, rounded up to whole cache lines. Where they are new memory of the system, the threads that fill
    /// them touch them first.
    pub(crate) fn zeros(length: usize) -> Self {
        let length = length.next_multiple_of(LINE);
        let values = vec![0.0f32; length + LINE - 1];
        let first = values.as_ptr().align_offset(LINE * size_of::<f32>());
        Self { values, first, length }
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.values[self.first..][..self.length]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.values[self.first..][..self.length]
    }
}

/// One of the thread's own buffers while somebody uses it. When dropped it goes back to the thread.
pub(crate) struct Scratch(Buffer);

/// Buffers that a thread keeps, the largest ones: a thread that packs for others also works on a part of what it packed.
const KEPT: usize = 2;

thread_local! {
    static OWN: RefCell<[Buffer; KEPT]> = const { RefCell::new([Buffer::EMPTY; KEPT]) };
}

impl Scratch {
    /// At least `length` values, which hold whatever the last user left. Users at the same time get buffers of their
    /// own.
    pub(crate) fn take(length: usize) -> Self {
        let smallest = OWN.with_borrow_mut(|own| {
            let fitting = own.iter_mut().filter(|buffer| buffer.length >= length);
            fitting.min_by_key(|buffer| buffer.length).map(std::mem::take)
        });
        Self(smallest.unwrap_or_else(|| Buffer::zeros(length)))
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        self.0.as_slice()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        self.0.as_mut_slice()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        OWN.with_borrow_mut(|own| {
            if let Some(smallest) = own.iter_mut().min_by_key(|buffer| buffer.length)
                && smallest.length < buffer.length
            {
                std::mem::swap(smallest, &mut buffer);
            }
        });
    }
}

/// A pointer that several threads write through, each to places of its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut(*mut f32);

// SAFETY: every use of the pointer is unsafe and has to say why no two threads touch the same place.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    pub(crate) fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// The pointer to element `index`.
    /// # Safety
    /// `index` lies within the slice, which outlives the use.
    #[inline(always)]
    pub(crate) unsafe fn at(self, index: usize) -> *mut f32 {
        // SAFETY: the caller keeps to the slice.
        unsafe { self.0.add(index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_whole_cache_lines() {
        for length in [0, 1, 16, 17, 100_000] {
            let buffer = Buffer::zeros(length);
            let values = buffer.as_slice();
            assert!(values.len() >= length && values.iter().all(|value| *value == 0.0));
            assert_eq!((values.as_ptr() as usize % 64, values.len() % 16), (0, 0));
        }
    }

    #[test]
    fn a_thread_keeps_its_two_largest_buffers() {
        let address = |scratch: &Scratch| scratch.as_slice().as_ptr();
        let (large, small) = (Scratch::take(4096), Scratch::take(512));
        let addresses = [&large, &small].map(address);
        drop(Scratch::take(16));
        drop((large, small));
        let (large, small) = (Scratch::take(4000), Scratch::take(500));
        assert_eq!([&large, &small].map(address), addresses);
        drop((large, small));
        assert_eq!(address(&Scratch::take(100)), addresses[1], "the smallest that fits");
    }
}
