//! How fast this disk gives this checkpoint.

use std::time::{Duration, Instant};

use sli_core::Result;

use crate::aligned::AlignedBuffer;
use crate::checkpoint::Checkpoint;
use crate::direct::{DirectFiles, ReadMode};
use crate::read_plan::PIECE;

/// From so many bytes on, a rate is that of the disk.
const TELLING: usize = 64 << 20;

impl Checkpoint {
    /// Bytes per second of reading the weight files one after another, in the pieces and the mode of a
    /// [`WeightStream`](crate::WeightStream), for at most `time`; and whether so much was read that it says something of
    /// the disk and not of opening files. `None` when there is nothing to read.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn measure_read_rate(&self, time: Duration) -> Result<Option<(f64, bool)>> {
        let files = DirectFiles::new(self.clone(), ReadMode::Direct);
        // A stream does not read into memory that it has just read into, which would be faster than it can be.
        let mut room = AlignedBuffer::new(4 * PIECE);
        let mut pieces = 0;
        let (start, mut bytes) = (Instant::now(), 0);
        'files: for (index, file) in self.files().iter().enumerate() {
            for offset in (0..file.length()).step_by(PIECE) {
                if start.elapsed() >= time {
                    break 'files;
                }
                let needed = (file.length() - offset).min(PIECE as u64) as usize;
                let piece = &mut room[pieces % 4 * PIECE..][..PIECE];
                files.read(index, offset, piece, needed)?;
                (bytes, pieces) = (bytes + needed, pieces + 1);
            }
        }
        let rate = bytes as f64 / start.elapsed().as_secs_f64().max(1e-9);
        Ok((bytes > 0).then_some((rate, bytes >= TELLING)))
    }
}
