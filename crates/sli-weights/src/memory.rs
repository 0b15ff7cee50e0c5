//! Where loaded weights lie: aligned buffers that are used again, and a count of who holds how much.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::slab::{Part, Slab};

/// Sizes of pooled buffers are multiples of this, so that layers which differ by a few bytes share buffers.
const GRANULE: usize = 64 << 10;

/// The size of the buffer that holds `bytes`.
pub(crate) fn buffer_bytes(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(GRANULE)
}

/// Memory that comes back when it is no longer used, since memory that is new to the process costs a page fault per page,
/// and more where it is new to a virtual machine.
pub(crate) struct BufferPool {
    /// Slabs have together no more than this, as far as it depends on the idle ones.
    limit: u64,
    slabs: Mutex<Slabs>,
}

/// Lent, in part lent, or idle; of the idle ones, those that have waited longest come first.
#[derive(Default)]
struct Slabs(Vec<Arc<Slab>>);

impl BufferPool {
    /// A pool that keeps idle slabs as long as all slabs together have at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, slabs: Mutex::default() })
    }

    /// [`buffer_bytes`] of `bytes` or a little more, with any contents: a slab of about this size, or a part of one that is a
    /// little larger, or a new one.
    fn lend(&self, bytes: usize) -> Part {
        let wanted = buffer_bytes(bytes);
        let mut slabs = self.slabs();
        if let Some(part) = slabs.whole(wanted).or_else(|| slabs.cut(wanted)) {
            return part;
        }
        let evicted = slabs.shrink_to(self.limit.saturating_sub(wanted as u64));
        let slab = Slab::new(wanted);
        let part = slab.lend(wanted).expect("nothing of a new slab is lent");
        slabs.0.push(slab);
        drop(slabs);
        drop(evicted);
        part
    }

    /// Something was given back to this slab.
    fn take_back(&self, part: Part) {
        let slab = part.slab().clone();
        let mut slabs = self.slabs();
        drop(part);
        if slab.is_idle() {
            slabs.0.retain(|other| !Arc::ptr_eq(other, &slab));
            slabs.0.push(slab);
        }
        let evicted = slabs.shrink_to(self.limit);
        drop(slabs);
        drop(evicted);
    }

    fn slabs(&self) -> MutexGuard<'_, Slabs> {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slabs {
    fn bytes(&self) -> usize {
        self.0.iter().map(|slab| slab.bytes()).sum()
    }

    /// An idle slab of no more than a little more than `bytes`.
    fn whole(&self, bytes: usize) -> Option<Part> {
        let sizes = bytes..=bytes + bytes / 64;
        let slab = self.0.iter().find(|slab| sizes.contains(&slab.bytes()) && slab.is_idle())?;
        slab.lend(slab.bytes())
    }

    /// A part of the smallest slab that has room and is no more than a quarter larger. A part of a much larger one would
    /// keep it from those that need all of it, for which new memory would have to be found.
    fn cut(&self, bytes: usize) -> Option<Part> {
        let sizes = bytes..=bytes + bytes / 4;
        let mut slabs: Vec<_> = self.0.iter().filter(|slab| sizes.contains(&slab.bytes())).collect();
        slabs.sort_by_key(|slab| slab.bytes());
        slabs.into_iter().find_map(|slab| slab.lend(bytes))
    }

    /// Takes out the idle slabs that have waited longest, until all that is left stays within the limit.
    fn shrink_to(&mut self, limit: u64) -> Vec<Arc<Slab>> {
        let mut bytes = self.bytes();
        let evicted = self.0.extract_if(.., |slab| {
            let evicts = bytes as u64 > limit && slab.is_idle();
            bytes -= if evicts { slab.bytes() } else { 0 };
            evicts
        });
        evicted.collect()
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
        LentBuffer { part: Some(self.pool.lend(bytes)), pool: self.pool.clone(), _lease: lease }
    }
}

/// A buffer that goes back to its pool when it is dropped.
pub(crate) struct LentBuffer {
    part: Option<Part>, // `None` only while it is dropped
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
        self.part.as_deref().unwrap_or_default()
    }
}

impl DerefMut for LentBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.part.as_deref_mut().unwrap_or_default()
    }
}

impl AsRef<[u8]> for LentBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for LentBuffer {
    fn drop(&mut self) {
        if let Some(part) = self.part.take() {
            self.pool.take_back(part);
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
        assert!(!pool.slabs().0[0].is_idle());
        drop(part);
        assert_eq!(held.load(Ordering::SeqCst), 0);
        assert_eq!(pool.lend(GRANULE - 5).as_ptr(), address, "the same memory is used again");
    }

    /// Bytes of slabs that are kept.
    fn kept(pool: &BufferPool) -> usize {
        pool.slabs().bytes() / GRANULE
    }

    #[test]
    fn idle_buffers_make_way() {
        let pool = BufferPool::new(4 * GRANULE as u64);
        let mut memory = memory(&pool, &Arc::default(), 100 * GRANULE as u64);
        let small: Vec<_> = (0..3).map(|_| memory.buffer(GRANULE)).collect();
        drop(small);
        assert_eq!(kept(&pool), 3);
        let large = memory.buffer(3 * GRANULE);
        assert_eq!(kept(&pool), 4, "two small ones made way");
        let larger = memory.buffer(9 * GRANULE);
        assert_eq!(kept(&pool), 12, "what is needed is lent, whatever the limit says");
        drop(larger);
        assert_eq!(kept(&pool), 3, "what is over the limit is freed");
        drop(large);
        assert_eq!(kept(&pool), 3);
    }

    #[test]
    fn idle_buffers_serve_what_is_a_little_smaller() {
        let pool = BufferPool::new(20 * GRANULE as u64);
        let mut memory = memory(&pool, &Arc::default(), 100 * GRANULE as u64);
        drop(memory.buffer(5 * GRANULE));
        let little_smaller = memory.buffer(4 * GRANULE);
        assert_eq!(kept(&pool), 5);
        drop(little_smaller);
        let much_smaller = memory.buffer(2 * GRANULE);
        assert_eq!(kept(&pool), 7, "the larger one stays for those that need it");
        drop(much_smaller);
    }
}
