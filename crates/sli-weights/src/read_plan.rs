//! From the byte ranges of many tensors to few large reads into one buffer.

use std::ops::Range;

use sli_core::Result;

use crate::aligned::BLOCK;
use crate::checkpoint::Checkpoint;
use crate::slot::Slot;

/// Bytes that nobody asked for are read along when they lie between two ranges and are no more than this: a read
/// more costs about as much.
const SMALL_GAP: u64 = 64 << 10;

/// The most that is read at once. Large enough for full speed, small enough that urgent requests wait briefly.
const PIECE: usize = 8 << 20;

/// Something that reads whole blocks of a checkpoint's files.
pub(crate) trait BlockReader {
    /// Fills at least the first `needed` bytes of `room`, a whole number of blocks, from a file's bytes from `offset`
    /// on, where a block starts.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    fn read(&mut self, file: usize, offset: u64, room: &mut [u8], needed: usize) -> Result<()>;

    /// Called before each piece that is read: something more urgent may go first.
    ///
    /// # Errors
    /// When nothing more is to be read.
    fn wait_for_turn(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Reads through the page cache, and leaves there what it reads.
impl BlockReader for &Checkpoint {
    fn read(&mut self, file: usize, offset: u64, room: &mut [u8], needed: usize) -> Result<()> {
        self.files()[file].read_at(&mut room[..needed], offset)
    }
}

/// The reads that bring some tensors into memory. Ranges that several tensors share are read once.
#[derive(Debug, Default)]
pub(crate) struct ReadPlan {
    extents: Vec<Extent>,
}

/// One run of bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extent {
    file: usize,
    /// Starts at a block; ends where the last tensor ends.
    range: Range<u64>,
    /// Where it lies in the buffer: at a block.
    position: usize,
}

impl Extent {
    fn bytes(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }

    /// Its place in the buffer, up to the end of its last block.
    fn room(&self) -> Range<usize> {
        self.position..self.position + self.bytes().next_multiple_of(BLOCK)
    }
}

impl ReadPlan {
    /// The reads for all of `slots`.
    pub(crate) fn new<'a>(slots: impl IntoIterator<Item = &'a Slot>) -> Self {
        let mut ranges: Vec<_> =
            slots.into_iter().map(|slot| (slot.stored.file, slot.range.clone())).collect();
        ranges.sort_by_key(|(file, range)| (*file, range.start));
        let mut extents: Vec<Extent> = Vec::new();
        for (file, range) in ranges {
            match extents.last_mut() {
                Some(last) if last.file == file && range.start <= last.range.end + SMALL_GAP => {
                    last.range.end = last.range.end.max(range.end);
                }
                last => {
                    let position = last.map_or(0, |last| last.room().end);
                    let start = range.start - range.start % BLOCK as u64;
                    extents.push(Extent { file, range: start..range.end, position });
                }
            }
        }
        Self { extents }
    }

    /// Size of the buffer.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.extents.last().map_or(0, |last| last.room().end)
    }

    /// Fills the buffer, piece by piece.
    ///
    /// # Errors
    /// Those of the reader.
    pub(crate) fn read(&self, buffer: &mut [u8], reader: &mut dyn BlockReader) -> Result<()> {
        for extent in &self.extents {
            for (index, piece) in buffer[extent.room()].chunks_mut(PIECE).enumerate() {
                reader.wait_for_turn()?;
                let done = index * PIECE;
                let needed = piece.len().min(extent.bytes() - done);
                reader.read(extent.file, extent.range.start + done as u64, piece, needed)?;
            }
        }
        Ok(())
    }

    /// Where the bytes of a slot of this plan lie in the buffer.
    pub(crate) fn place_of(&self, slot: &Slot) -> Range<usize> {
        let (file, range) = (slot.stored.file, &slot.range);
        let holds = |e: &&Extent| e.file == file && e.range.start <= range.start && range.end <= e.range.end;
        let extent = self.extents.iter().find(holds).expect("the plan was made for this slot");
        let start = extent.position + (range.start - extent.range.start) as usize;
        start..start + (range.end - range.start) as usize
    }
}
