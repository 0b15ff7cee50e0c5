//! Where each chunk of a spilled store lies: the room set aside for it, known before the run starts.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sli_core::{Generation, Result, SliError};

use crate::atomic::write_atomically;
use crate::record::record_bytes;
use crate::state_dir::StateFile;

/// Bytes of values that each chunk may have, per generation.
///
/// ```
/// use sli_cache::{Generation, SlotLayout};
///
/// // Two chunks of 1000 and 800 tokens, with a hidden state of width 64 and nothing carried.
/// let layout = SlotLayout::from_tokens(&[1000, 800], 64 * 4);
/// assert_eq!(layout.capacity(Generation::Odd, 1), Some(800 * 64 * 4));
/// assert_eq!(layout.capacity(Generation::EncoderOutput, 0), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotLayout {
    even: Vec<u64>,
    odd: Vec<u64>,
    encoder_output: Vec<u64>,
}

/// The room for one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) offset: u64,
    pub(crate) capacity: u64,
}

impl SlotLayout {
    /// The same room in both alternating generations, for chunks of this many tokens; nothing for an encoder's
    /// output. `bytes_per_token` counts the hidden state and all that is carried, 4 bytes a value, in the stage where
    /// they are widest.
    pub fn from_tokens(chunk_tokens: &[usize], bytes_per_token: u64) -> Self {
        let capacities: Vec<_> =
            chunk_tokens.iter().map(|tokens| (*tokens as u64).saturating_mul(bytes_per_token)).collect();
        Self { even: capacities.clone(), odd: capacities, encoder_output: Vec::new() }
    }

    /// With this room in one of the generations, a number of bytes per chunk.
    pub fn with(mut self, generation: Generation, capacities: Vec<u64>) -> Self {
        *match generation {
            Generation::Even => &mut self.even,
            Generation::Odd => &mut self.odd,
            Generation::EncoderOutput => &mut self.encoder_output,
        } = capacities;
        self
    }

    /// Bytes of values that a chunk may have; `None` when there is no such chunk.
    pub fn capacity(&self, generation: Generation, chunk: usize) -> Option<u64> {
        self.capacities(generation).get(chunk).copied()
    }

    /// Bytes on disk when every slot is full.
    pub fn file_bytes(&self) -> u64 {
        let capacities = [&self.even, &self.odd, &self.encoder_output].into_iter().flatten();
        capacities.fold(0, |sum: u64, bytes| sum.saturating_add(record_bytes(*bytes)))
    }

    pub(crate) fn slots(&self, generation: Generation) -> Vec<Slot> {
        let mut offset = 0;
        let slot = |&capacity: &u64| {
            let slot = Slot { offset, capacity };
            offset = offset.saturating_add(record_bytes(capacity));
            slot
        };
        self.capacities(generation).iter().map(slot).collect()
    }

    fn capacities(&self, generation: Generation) -> &[u64] {
        match generation {
            Generation::Even => &self.even,
            Generation::Odd => &self.odd,
            Generation::EncoderOutput => &self.encoder_output,
        }
    }

    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).expect("a layout of numbers is JSON");
        write_atomically(StateFile::Slots.path(dir), &text)
    }

    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let path = StateFile::Slots.path(dir);
        let text = fs::read(&path).map_err(SliError::io("cannot read", &path))?;
        serde_json::from_slice(&text).map_err(io::Error::from).map_err(SliError::io("cannot read", &path))
    }
}

#[cfg(test)]
mod tests {
    use sli_core::{ActivationStore, ChunkState, Rows};

    use super::*;
    use crate::SpilledStore;

    #[test]
    fn slots_lie_end_to_end_and_are_counted_in_whole_blocks() {
        let layout = SlotLayout::from_tokens(&[3, 2000], 8).with(Generation::EncoderOutput, vec![0]);
        let slot = |offset, capacity| Slot { offset, capacity };
        assert_eq!(layout.slots(Generation::Odd), [slot(0, 24), slot(8192, 16_000)]);
        // Twice a header and 1 or 4 blocks of values; and a header alone.
        assert_eq!(layout.file_bytes(), 2 * (2 + 5) * 4096 + 4096);
        assert_eq!(SlotLayout::from_tokens(&[usize::MAX; 3], u64::MAX).file_bytes(), u64::MAX);
    }

    #[test]
    fn a_full_store_takes_no_more_than_its_layout_says() {
        let dir = tempfile::tempdir().unwrap();
        let layout = SlotLayout::from_tokens(&[100, 1024], 16);
        let store = SpilledStore::create(dir.path(), &layout).unwrap();
        for generation in [Generation::Even, Generation::Odd] {
            for (chunk, tokens) in [100, 1024].into_iter().enumerate() {
                store.put(generation, chunk, ChunkState::new(Rows::new(4, vec![1.0; tokens * 4]))).unwrap();
            }
        }
        let length = |name| fs::metadata(dir.path().join(name)).unwrap().len();
        assert_eq!(length("sli-even.spill") + length("sli-odd.spill"), layout.file_bytes());
        assert_eq!(SlotLayout::load(dir.path()).unwrap(), layout);
    }
}
