//! From the byte ranges of many tensors to few large reads into one buffer.

use std::ops::Range;

use sli_core::Result;

use crate::aligned::BLOCK;
use crate::checkpoint::Checkpoint;

/// Bytes that nobody asked for are read along when they lie between two ranges and are no more than this: a read
/// more costs about as much.
const SMALL_GAP: u64 = 64 << 10;

/// About how much is read at once. Large enough for full speed, small enough that urgent requests wait briefly.
pub(crate) const PIECE: usize = 8 << 20;

/// Cuts memory for one run of bytes into pieces. A short rest is read with the last piece: small reads are slow.
fn pieces(mut room: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    std::iter::from_fn(move || {
        let length = if room.len() < PIECE + PIECE / 2 { room.len() } else { PIECE };
        let (piece, rest) = std::mem::take(&mut room).split_at_mut(length);
        room = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

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

/// Some bytes of a file, which is given by its index in the checkpoint.
pub(crate) type FileRange = (usize, Range<u64>);

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
    /// The reads for ranges of files.
    pub(crate) fn new(ranges: impl IntoIterator<Item = FileRange>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
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
            for (index, piece) in pieces(&mut buffer[extent.room()]).enumerate() {
                reader.wait_for_turn()?;
                let done = index * PIECE;
                let needed = piece.len().min(extent.bytes() - done);
                reader.read(extent.file, extent.range.start + done as u64, piece, needed)?;
            }
        }
        Ok(())
    }

    /// Where the bytes of a range lie in the buffer, if the plan was made for it.
    pub(crate) fn position_of(&self, (file, range): &FileRange) -> Option<Range<usize>> {
        let holds = |e: &&Extent| e.file == *file && e.range.start <= range.start && range.end <= e.range.end;
        let extent = self.extents.iter().find(holds)?;
        let start = extent.position + (range.start - extent.range.start) as usize;
        Some(start..start + (range.end - range.start) as usize)
    }
}

/// Bytes that are in at least one of the ranges.
pub(crate) fn distinct_bytes(ranges: impl IntoIterator<Item = FileRange>) -> u64 {
    let mut ranges: Vec<_> = ranges.into_iter().collect();
    ranges.sort_by_key(|(file, range)| (*file, range.start));
    let (mut bytes, mut current, mut end) = (0, None, 0);
    for (file, range) in ranges {
        if current != Some(file) {
            (current, end) = (Some(file), 0);
        }
        bytes += range.end.saturating_sub(range.start.max(end));
        end = end.max(range.end);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// File bytes are their offset modulo 251, plus the file.
    struct Counting {
        reads: Vec<(usize, u64, usize)>,
    }

    impl BlockReader for Counting {
        fn read(&mut self, file: usize, offset: u64, room: &mut [u8], needed: usize) -> Result<()> {
            assert!(offset.is_multiple_of(BLOCK as u64) && room.len().is_multiple_of(BLOCK));
            assert!(needed <= room.len());
            for (byte, at) in room[..needed].iter_mut().zip(offset..) {
                *byte = (at % 251) as u8 + file as u8;
            }
            self.reads.push((file, offset, needed));
            Ok(())
        }
    }

    #[test]
    fn neighbours_are_read_together_and_shared_bytes_once() {
        const FAR: u64 = 1 << 20;
        let ranges = [(0, 5000..9000), (0, 100..200), (0, 8000..8100), (0, FAR + 5..FAR + 6), (1, 0..10)];
        let plan = ReadPlan::new(ranges.clone());
        let mut buffer = vec![0; plan.buffer_bytes()];
        let mut reader = Counting { reads: Vec::new() };
        plan.read(&mut buffer, &mut reader).unwrap();
        assert_eq!(reader.reads, [(0, 0, 9000), (0, FAR, 6), (1, 0, 10)]);
        for range in ranges {
            let bytes = &buffer[plan.position_of(&range).unwrap()];
            let expected: Vec<_> = range.1.map(|at| (at % 251) as u8 + range.0 as u8).collect();
            assert_eq!(bytes, expected);
        }
        assert_eq!(plan.position_of(&(1, 5..11)), None);
    }

    #[test]
    fn large_reads_are_cut_into_pieces() {
        let bytes = PIECE as u64 * 2 + 10;
        let plan = ReadPlan::new([(0, 10..bytes)]);
        let mut buffer = vec![0; plan.buffer_bytes()];
        let mut reader = Counting { reads: Vec::new() };
        plan.read(&mut buffer, &mut reader).unwrap();
        let sizes: Vec<_> = reader.reads.iter().map(|(_, _, needed)| *needed).collect();
        assert_eq!(sizes, [PIECE, PIECE + 10], "a short rest is not read by itself");
        assert_eq!(buffer[bytes as usize - 1], ((bytes - 1) % 251) as u8);
    }

    #[test]
    fn bytes_that_are_shared_count_once() {
        assert_eq!(distinct_bytes([(0, 10..20), (0, 15..25), (0, 0..5), (1, 0..5), (0, 12..13)]), 25);
        assert_eq!(distinct_bytes([]), 0);
    }
}
