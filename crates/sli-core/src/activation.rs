//! What is kept of a chunk of samples between two layers, and the store that keeps it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Rows of f32 values, one per token. Cloning shares the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    width: usize,
    values: Arc<Vec<f32>>,
}

impl Rows {
    /// Takes over `values`, which hold whole rows of `width`.
    ///
    /// # Panics
    /// When the length is no multiple of the width.
    pub fn new(width: usize, values: Vec<f32>) -> Self {
        assert!(
            width > 0 && values.len().is_multiple_of(width),
            "{} values in rows of {width}",
            values.len()
        );
        Self { width, values: Arc::new(values) }
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.values.len() / self.width
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The shared vector itself, for handing on without a copy.
    pub fn shared(&self) -> Arc<Vec<f32>> {
        self.values.clone()
    }

    /// The values, copied only when others still share them.
    pub fn into_values(self) -> Vec<f32> {
        Arc::try_unwrap(self.values).unwrap_or_else(|shared| shared.to_vec())
    }
}

/// Something besides the hidden state that later layers need, such as the first layer's values (RWKV-7) or the
/// original embedding (Zamba).
#[derive(Clone, Debug, PartialEq)]
pub struct Carry {
    /// What it is; unique within a chunk.
    pub name: String,
    /// One row per token.
    pub rows: Rows,
}

/// What crosses from one layer to the next for one chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkState {
    /// The hidden state, [tokens, width].
    pub hidden: Rows,
    /// Whatever else is carried, in a fixed order.
    pub carry: Vec<Carry>,
}

impl ChunkState {
    /// A chunk with a hidden state and nothing else.
    pub fn new(hidden: Rows) -> Self {
        Self { hidden, carry: Vec::new() }
    }

    /// Bytes of all values.
    pub fn bytes(&self) -> u64 {
        let values = self.hidden.values.len() + self.carry.iter().map(|c| c.rows.values.len()).sum::<usize>();
        values as u64 * 4
    }
}

/// Which set of chunks. Two generations take turns, one being read while the other is written; an encoder's output
/// stays beside them for the cross attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// Written by stages with an even index.
    Even,
    /// Written by stages with an odd index.
    Odd,
    /// The encoder's output, kept while the decoder runs.
    EncoderOutput,
}

impl Generation {
    /// The generation that the stage with this index writes. It reads the other one.
    pub fn written_by(stage: usize) -> Self {
        if stage.is_multiple_of(2) { Self::Even } else { Self::Odd }
    }
}

/// How far a run has come: all stages before `stage` are done, and the first `chunks` chunks of it.
/// A stage is an embedding, a layer, a final norm or a head; the pipeline numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The stage at work.
    pub stage: usize,
    /// Chunks of it that are done.
    pub chunks: usize,
}

/// Keeps the chunks of up to three generations, in memory or on disk. Called from several threads.
pub trait ActivationStore: Send + Sync {
    /// Keeps a chunk, replacing what was kept under the same name.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put(&self, generation: Generation, chunk: usize, state: ChunkState) -> Result<()>;

    /// Gives a chunk back. It stays kept until it is replaced or released.
    ///
    /// # Errors
    /// When the chunk is not there or cannot be read.
    fn get(&self, generation: Generation, chunk: usize) -> Result<ChunkState>;

    /// Says that a chunk is not needed again, so that its memory may be used for others. On disk it may stay.
    fn release(&self, generation: Generation, chunk: usize);

    /// Forgets a generation; its memory or disk space may be used again.
    ///
    /// # Errors
    /// When files cannot be removed.
    fn drop_generation(&self, generation: Generation) -> Result<()>;

    /// Makes every kept chunk survive a crash: when this returns, a new store over the same directory finds them.
    ///
    /// # Errors
    /// When the bytes cannot be written or synced.
    fn sync(&self) -> Result<()>;

    /// Does [`ActivationStore::sync`] cost little, because the chunks are on disk anyway?
    fn is_durable(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shared_until_taken() {
        let rows = Rows::new(2, vec![1.0, 2.0, 3.0, 4.0]);
        let other = rows.clone();
        assert_eq!((rows.count(), rows.width()), (2, 2));
        assert_eq!(other.into_values(), rows.values());
    }

    #[test]
    fn generations_take_turns() {
        assert_eq!(Generation::written_by(4), Generation::Even);
        assert_eq!(Generation::written_by(7), Generation::Odd);
    }
}
