//! Checkpoints on disk as a bounded stream of layers: safetensors, direct I/O, read-ahead.

mod aligned;
mod checkpoint;
mod direct;
mod files;
mod header;
mod layout;
mod load;
mod memory;
mod read_plan;
mod rows;
mod schedule;
mod slot;
mod stream;
mod view;

pub use checkpoint::{Checkpoint, StoredTensor, WeightFile};
pub use direct::ReadMode;
pub use header::StoredDtype;
pub use layout::Layout;
pub use load::{GroupTensors, ReadRequest};
pub use slot::Slot;
pub use stream::{StreamOptions, StreamStats, WeightStream};
