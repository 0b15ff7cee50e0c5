//! Where loaded weights lie: aligned buffers that are used again, and a count of who holds how much.

use std::ops::{Deref, DerefMut, RangeInclusive};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::aligned::AlignedBuffer;

/// Sizes of pooled buffers are multiples of this, so that layers which differ by a few bytes share buffers.
const GRANULE: usize = 64 << 10;

/// The size of the buffer that holds `bytes`.
pub(crate) fn buffer_bytes(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(GRANULE)
}

/// Buffers that come back when they are no longer used, since memory that is new to the process costs a page fault per
/// page, and more where it is new to a virtual machine.
pub(crate) struct BufferPool {
    /// Lent and idle buffers together stay within this, as far as it depends on the idle ones.
    limit: u64,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    idle: Vec<AlignedBuffer>,
    idle_bytes: usize,
    lent_bytes: usize,
}

impl BufferPool {
    /// A pool that keeps idle buffers as long as all buffers together have at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default() })
    }

    /// A buffer of [`buffer_bytes`] of `bytes` or up to a quarter more, with any contents. One that is much larger is kept
    /// for those that need it: new memory would have to be found for them.
    fn lend(&self, bytes: usize) -> AlignedBuffer {
        let wanted = buffer_bytes(bytes);
        let mut state = self.state();
        if let Some(buffer) = state.take_idle(wanted..=wanted + wanted / 4) {
            return buffer;
        }
        state.lent_bytes += wanted;
        let evicted = state.shrink_to(self.limit);
        drop(state);
        drop(evicted);
        AlignedBuffer::new(wanted)
    }

    fn take_back(&self, buffer: AlignedBuffer) {
        let mut state = self.state();
        state.lent_bytes -= buffer.len();
        state.idle_bytes += buffer.len();
        state.idle.push(buffer);
        let evicted = state.shrink_to(self.limit);
        drop(state);
        drop(evicted);
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolState {
    /// The smallest idle buffer of these sizes, which is lent from now on.
    fn take_idle(&mut self, sizes: RangeInclusive<usize>) -> Option<AlignedBuffer> {
        let fitting = self.idle.iter().enumerate().filter(|(_, buffer)| sizes.contains(&buffer.len()));
        let (index, _) = fitting.min_by_key(|(_, buffer)| buffer.len())?;
        let buffer = self.idle.remove(index);
        self.idle_bytes -= buffer.len();
        self.lent_bytes += buffer.len();
        Some(buffer)
    }

    /// Takes out the idle buffers that have waited longest, until all that is left stays within the limit.
    fn shrink_to(&mut self, limit: u64) -> Vec<AlignedBuffer> {
        let (mut count, mut idle) = (0, self.idle_bytes);
        while count < self.idle.len() && (idle + self.lent_bytes) as u64 > limit {
            idle -= self.idle[count].len();
            count += 1;
        }
        self.idle_bytes = idle;
        self.idle.drain(..count).collect()
    }
}

/// A part of a budget. Given back when it is dropped.
pub(crate) struct Lease {
    bytes: u64,
    give_back: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Lease {
    /// `bytes` of a budget, which hears of their return through `give_back`.
    pub(crate) fn new(bytes: u64, give_back: Arc<dyn Fn(u64) + Send + Sync>) -> Self {
        Self { bytes, give_back }
    }

    /// Moves some of the bytes into a lease of their own.
    fn split(&mut self, bytes: u64) -> Self {
        debug_assert!(bytes <= self.bytes, "a load asks for no more than was planned");
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { bytes, give_back: self.give_back.clone() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        (self.give_back)(self.bytes);
    }
}

/// Where the buffers of one load come from.
pub(crate) struct Memory {
    pool: Arc<BufferPool>,
    lease: Option<Lease>,
}

impl Memory {
    /// Buffers from a pool, each with its share of the lease.
    pub(crate) fn leased(pool: Arc<BufferPool>, lease: Lease) -> Self {
        Self { pool, lease: Some(lease) }
    }

    /// Buffers of their own, which are freed when they are dropped.
    pub(crate) fn unpooled() -> Self {
        Self { pool: BufferPool::new(0), lease: None }
    }

    /// A buffer of at least `bytes` bytes, with any contents.
    pub(crate) fn buffer(&mut self, bytes: usize) -> LentBuffer {
        let lease = self.lease.as_mut().map(|lease| lease.split(buffer_bytes(bytes) as u64));
        LentBuffer { buffer: Some(self.pool.lend(bytes)), pool: self.pool.clone(), _lease: lease }
    }
}

/// A buffer that goes back to its pool when it is dropped.
pub(crate) struct LentBuffer {
    buffer: Option<AlignedBuffer>, // `None` only while it is dropped
    pool: Arc<BufferPool>,
    _lease: Option<Lease>,
}

impl LentBuffer {
    /// Shares the bytes; the last one to drop them gives the buffer back.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for LentBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }
}

impl DerefMut for LentBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.buffer.as_deref_mut().unwrap_or_default()
    }
}

impl AsRef<[u8]> for LentBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for LentBuffer {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.take_back(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn memory(pool: &Arc<BufferPool>, held: &Arc<AtomicU64>, bytes: u64) -> Memory {
        held.fetch_add(bytes, Ordering::SeqCst);
        let held = held.clone();
        let give_back = move |bytes| {
            held.fetch_sub(bytes, Ordering::SeqCst);
        };
        Memory::leased(pool.clone(), Lease::new(bytes, Arc::new(give_back)))
    }

    #[test]
    fn buffers_come_back_when_the_last_user_is_gone() {
        let pool = BufferPool::new(4 * GRANULE as u64);
        let held = Arc::default();
        let mut memory = memory(&pool, &held, 2 * GRANULE as u64);
        let bytes = memory.buffer(GRANULE).into_bytes();
        let address = bytes.as_ptr();
        drop(memory);
        assert_eq!(held.load(Ordering::SeqCst), GRANULE as u64, "the unused part of the lease is back");
        let part = bytes.slice(100..200);
        drop(bytes);
        assert_eq!(pool.state().idle.len(), 0);
        drop(part);
        assert_eq!(held.load(Ordering::SeqCst), 0);
        assert_eq!(pool.lend(GRANULE - 5).as_ptr(), address, "the same memory is used again");
    }

    #[test]
    fn idle_buffers_make_way() {
        let pool = BufferPool::new(4 * GRANULE as u64);
        let mut memory = memory(&pool, &Arc::default(), 100 * GRANULE as u64);
        let small: Vec<_> = (0..3).map(|_| memory.buffer(GRANULE)).collect();
        drop(small);
        assert_eq!(pool.state().idle_bytes, 3 * GRANULE);
        let large = memory.buffer(3 * GRANULE);
        assert_eq!(pool.state().idle_bytes, GRANULE);
        let larger = memory.buffer(9 * GRANULE);
        assert_eq!(pool.state().idle_bytes, 0);
        drop(larger);
        assert_eq!(pool.state().idle_bytes, 0, "what is over the limit is freed");
        drop(large);
        assert_eq!(pool.state().idle_bytes, 3 * GRANULE);
    }

    #[test]
    fn idle_buffers_serve_what_is_a_little_smaller() {
        let pool = BufferPool::new(20 * GRANULE as u64);
        let mut memory = memory(&pool, &Arc::default(), 100 * GRANULE as u64);
        drop(memory.buffer(5 * GRANULE));
        let little_smaller = memory.buffer(4 * GRANULE);
        assert_eq!(pool.state().lent_bytes, 5 * GRANULE);
        drop(little_smaller);
        let much_smaller = memory.buffer(2 * GRANULE);
        assert_eq!(pool.state().idle_bytes, 5 * GRANULE, "it stays for those that need it");
        drop(much_smaller);
    }
}
