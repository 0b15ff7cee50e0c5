//! Activations between layers, in memory or on disk, with commits that survive a crash.
//!
//! - [`ActivationStore`]: what the pipeline sees. [`ResidentStore`] keeps chunks in memory, [`SpilledStore`] on disk;
//!   [`BackgroundStore`] wraps either and reads ahead and writes behind.
//! - [`RunJournal`]: how far a run has come. It refuses to resume what has another [`Fingerprint`], and lets one
//!   process at a time into a directory.
//! - [`AtomicFile`]: files that appear whole or not at all.
//! - [`activation_states`], [`verify_activations`], [`clear_activations`]: what runs have left.
//!
//! Stores and journal of a run share a directory. The order is always: put chunks, [`sync`](ActivationStore::sync)
//! the store, [`commit`](RunJournal::commit) to the journal.
//!
//! ```
//! use sli_cache::*;
//!
//! # let temporary = tempfile::tempdir().unwrap();
//! # let dir = temporary.path().join("run");
//! let fingerprint = Fingerprint::new().with("model", "tiny@abc").with("dtype", "f32");
//! let (mut journal, resumed) = RunJournal::open_or_create(&dir, &fingerprint)?;
//! assert!(resumed.is_none());
//!
//! // Two chunks of 3 and 2 tokens, 4 values wide.
//! let store = SpilledStore::create(&dir, &SlotLayout::from_tokens(&[3, 2], 4 * 4))?;
//! store.put(Generation::Even, 0, ChunkState::new(Rows::new(4, vec![0.5; 12])))?;
//! store.sync()?;
//! journal.commit(Position { stage: 0, chunks: 1 }, "whatever the run wants to remember".into())?;
//! drop((store, journal)); // the power fails
//!
//! let (journal, resumed) = RunJournal::open_or_create(&dir, &fingerprint)?;
//! assert_eq!(resumed.unwrap().position, Position { stage: 0, chunks: 1 });
//! let store = SpilledStore::open(&dir)?;
//! assert_eq!(store.get(Generation::Even, 0)?.hidden.values(), [0.5; 12]);
//! journal.finish()?;
//! assert!(!dir.exists());
//! # Ok::<(), sli_core::SliError>(())
//! ```

mod atomic;
mod background;
mod fingerprint;
mod inventory;
mod journal;
mod lock;
mod record;
mod resident;
mod slots;
mod snapshot;
mod spilled;
mod state_dir;

pub use atomic::{AtomicFile, write_atomically};
pub use background::BackgroundStore;
pub use fingerprint::Fingerprint;
pub use inventory::{
    ActivationState, Cleared, Condition, Verification, activation_states, clear_activations,
    verify_activations,
};
pub use journal::{Resumed, RunJournal};
pub use record::ChunkError;
pub use resident::ResidentStore;
pub use sli_core::{ActivationStore, Carry, ChunkState, Generation, Position, Rows};
pub use slots::SlotLayout;
pub use spilled::SpilledStore;
