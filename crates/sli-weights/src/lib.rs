//! Checkpoints on disk as a bounded stream of layers: safetensors, direct I/O, read-ahead.

mod aligned;
mod checkpoint;
mod files;
mod header;

pub use checkpoint::{Checkpoint, StoredTensor, WeightFile};
pub use header::StoredDtype;
