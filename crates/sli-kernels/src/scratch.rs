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

/// The thread's own buffer while somebody uses it. When dropped it goes back to the thread, which keeps the largest.
pub(crate) struct Scratch(Buffer);

thread_local! {
    static OWN: Cell<Vec<CacheLine>> = const { Cell::new(Vec::new()) };
}

impl Scratch {
    /// At least `length` values, which hold whatever the last user left. A second user at the same time gets a buffer
    /// of its own.
    pub(crate) fn take(length: usize) -> Self {
        let own = Buffer(OWN.take());
        if own.0.len() * 16 < length { Self(Buffer::zeros(length)) } else { Self(own) }
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
        let other = OWN.take();
        let own = std::mem::take(&mut self.0.0);
        OWN.set(if own.len() < other.len() { other } else { own });
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
