//! Reads past the page cache, and what is done where the file system has none of that.

use std::fs::File;
use std::os::unix::fs::FileExt;

use sli_core::Result;

use crate::aligned::{AlignedBuffer, BLOCK, forget_pages, open_direct};
use crate::checkpoint::Checkpoint;

/// How weights are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// From the device into our buffers, past the page cache.
    Direct,
    /// Through the page cache, which is told to forget what was read: where the file system refuses direct reads
    /// (in memory, over a network), or when the user asked for it.
    Buffered,
}

/// The files of a checkpoint, open for direct reads where that works.
pub(crate) struct DirectFiles {
    checkpoint: Checkpoint,
    /// By file; `None` where reads go through the page cache.
    direct: Vec<Option<File>>,
}

impl DirectFiles {
    /// Opens the files of a checkpoint, as `mode` says if they allow it.
    pub(crate) fn new(checkpoint: Checkpoint, mode: ReadMode) -> Self {
        let direct = checkpoint.files().iter().map(|file| match mode {
            ReadMode::Direct => open_direct(file.path()).ok().filter(reads_directly),
            ReadMode::Buffered => None,
        });
        Self { direct: direct.collect(), checkpoint }
    }

    /// How they are read: directly only when all of them are.
    pub(crate) fn mode(&self) -> ReadMode {
        if self.direct.iter().all(Option::is_some) { ReadMode::Direct } else { ReadMode::Buffered }
    }

    /// Fills at least the first `needed` bytes of `room`; both `room` and `offset` are whole blocks.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    pub(crate) fn read(&self, file: usize, offset: u64, room: &mut [u8], needed: usize) -> Result<()> {
        let buffered = &self.checkpoint.files()[file];
        let Some(direct) = &self.direct[file] else {
            buffered.read_at(&mut room[..needed], offset)?;
            forget_pages(buffered.handle(), offset, needed);
            return Ok(());
        };
        // A direct read may fail or stop short where an ordinary one does not; that one also words the error.
        match direct.read_at(room, offset).unwrap_or(0) {
            read if read >= needed => Ok(()),
            read => buffered.read_at(&mut room[read..needed], offset + read as u64),
        }
    }
}

/// Some file systems take the flag and then refuse the first read.
fn reads_directly(file: &File) -> bool {
    file.read_at(&mut AlignedBuffer::new(BLOCK), 0).is_ok()
}
