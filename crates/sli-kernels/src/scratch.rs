//! Working memory that is aligned to cache lines, and a piece of it that each thread keeps.

use std::cell::Cell;

/// Working memory that a thread which calls kernels keeps at most, in bytes, while products sum over at most 32768
/// columns (65536 where inputs are rounded to bf16). Longer ones pack 64 rows at a time still: 256 bytes a column.
pub const SCRATCH_BYTES: usize = 8 << 20;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine {
    values: [f32; 16],
}

/// f32 values (or the bits of other 32-bit units) that begin on a cache line.
pub(crate) struct Buffer(Vec<CacheLine>);

impl Buffer {
    /// `length` zeros, rounded up to whole cache lines.
    pub(crate) fn zeros(length: usize) -> Self {
        Self(vec![CacheLine { values: [0.0; 16] }; length.div_ceil(16)])
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        // SAFETY: a cache line is 16 values without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: a cache line is 16 values without padding.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 16) }
    }
}

/// One of the thread's own buffers while somebody uses it. When dropped it goes back to the thread.
pub(crate) struct Scratch(Buffer);

/// Buffers that a thread keeps, the largest ones: a thread that packs for others also works on a part of what it packed.
const KEPT: usize = 2;

thread_local! {
    static OWN: Cell<[Vec<CacheLine>; KEPT]> = const { Cell::new([const { Vec::new() }; KEPT]) };
}

impl Scratch {
    /// At least `length` values, which hold whatever the last user left. Users at the same time get buffers of their
    /// own.
    pub(crate) fn take(length: usize) -> Self {
        let mut own = OWN.take();
        let fitting = own.iter_mut().filter(|buffer| buffer.len() * 16 >= length);
        let smallest = fitting.min_by_key(|buffer| buffer.len()).map(std::mem::take);
        OWN.set(own);
        Self(smallest.map_or_else(|| Buffer::zeros(length), Buffer))
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
        let (mut own, buffer) = (OWN.take(), std::mem::take(&mut self.0.0));
        if let Some(smallest) = own.iter_mut().min_by_key(|buffer| buffer.len())
            && smallest.len() < buffer.len()
        {
            *smallest = buffer;
        }
        OWN.set(own);
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
