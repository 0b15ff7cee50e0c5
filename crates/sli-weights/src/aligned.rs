//! Memory and files for direct I/O: the only unsafe code of this crate.
//!
//! Direct I/O moves whole blocks between a device and memory, both aligned, past the page cache. A layer that is read
//! once and dropped would only push more useful pages out of it.

use std::alloc::{Layout, handle_alloc_error};
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::ptr::{self, NonNull};

/// Alignment of buffers, and of the offsets and lengths of direct reads: the largest block size in common use.
pub(crate) const BLOCK: usize = 4096;

/// Size of a large page on most machines. A large buffer starts at one: pages that are no large ones take a direct read
/// up to a sixth longer.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory of a whole number of blocks, at the start of a block.
///
/// It is mapped for itself, so that it costs nothing before it is used and is the operating system's again when it is
/// dropped: an allocator would touch all of it at once and keep it afterwards.
pub(crate) struct AlignedBuffer {
    start: NonNull<u8>,
    bytes: usize,
    /// Unmapped when the buffer is dropped.
    _mapping: Mapping,
}

/// Addresses that were mapped, some more than are used so that a large page can start where the buffer does.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the buffer owns its memory, which has no interior mutability: like a `Box<[u8]>`.
unsafe impl Send for AlignedBuffer {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// At least `bytes` bytes (and at least one block).
    pub(crate) fn new(bytes: usize) -> Self {
        let layout =
            Layout::from_size_align(bytes.max(1), BLOCK).expect("a size below isize::MAX").pad_to_align();
        let alignment = if layout.size() < HUGE_PAGE { BLOCK } else { HUGE_PAGE };
        let mapping =
            Mapping::new(layout.size() + alignment - BLOCK).unwrap_or_else(|| handle_alloc_error(layout));
        let skipped = mapping.start.align_offset(alignment);
        // SAFETY: mappings start at a block, so at most `alignment - BLOCK` bytes are skipped: it stays in the mapping.
        let start = unsafe { mapping.start.add(skipped) };
        let buffer = Self { start, bytes: layout.size(), _mapping: mapping };
        buffer.prefer_huge_pages();
        buffer
    }

    /// Large pages cost one fault and one pin for a direct read where small ones cost 512. Systems without them, and
    /// buffers smaller than one, go on with small pages.
    #[cfg(target_os = "linux")]
    fn prefer_huge_pages(&self) {
        // SAFETY: advice about memory that this buffer owns; it changes no contents.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, libc::MADV_HUGEPAGE) };
    }

    #[cfg(not(target_os = "linux"))]
    fn prefer_huge_pages(&self) {}
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `bytes` bytes that were zero when mapped and live as long as `self`;
        // they change only through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Mapping {
    /// Zeroed memory of its own; `None` when the system gives none.
    fn new(bytes: usize) -> Option<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the system's choice touches no memory that is in use.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
        let start =
            NonNull::new(start.cast::<u8>()).filter(|start| start.as_ptr().cast() != libc::MAP_FAILED)?;
        Some(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this very size, and unmapped only here.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Lets `Bytes` own a buffer.
impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Opens a file for reads past the page cache: of whole blocks, at whole blocks, into whole blocks of memory.
///
/// # Errors
/// When the file system or the operating system does not offer it; some say so only at the first read.
#[cfg(target_os = "linux")]
pub(crate) fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).custom_flags(libc::O_DIRECT).open(path)
}

/// As on Linux, but never offered.
#[cfg(not(target_os = "linux"))]
pub(crate) fn open_direct(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Tells the operating system that a part of a file need not stay in the page cache. A hint, which may do nothing.
#[cfg(target_os = "linux")]
pub(crate) fn forget_pages(file: &File, offset: u64, bytes: usize) {
    use std::os::fd::AsRawFd;
    let (offset, bytes) = (offset as libc::off_t, bytes as libc::off_t);
    // SAFETY: the descriptor is open as long as `file` lives, and the call touches no memory of this process.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, bytes, libc::POSIX_FADV_DONTNEED) };
}

/// As on Linux, but without the hint.
#[cfg(not(target_os = "linux"))]
pub(crate) fn forget_pages(_file: &File, _offset: u64, _bytes: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_whole_zeroed_blocks() {
        for (bytes, length) in [(0, BLOCK), (1, BLOCK), (BLOCK, BLOCK), (BLOCK + 1, 2 * BLOCK)] {
            let buffer = AlignedBuffer::new(bytes);
            assert_eq!(buffer.len(), length);
            assert!((buffer.as_ptr() as usize).is_multiple_of(BLOCK));
            assert!(buffer.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn large_buffers_start_at_large_pages() {
        for bytes in [HUGE_PAGE, HUGE_PAGE + BLOCK, 5 * HUGE_PAGE - BLOCK] {
            let mut buffer = AlignedBuffer::new(bytes);
            assert_eq!(buffer.len(), bytes);
            assert!((buffer.as_ptr() as usize).is_multiple_of(HUGE_PAGE));
            buffer[bytes - 1] = 1; // all of it is mapped
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut buffer = AlignedBuffer::new(10);
        buffer[..3].copy_from_slice(&[1, 2, 3]);
        assert_eq!(buffer[..4], [1, 2, 3, 0]);
    }
}
