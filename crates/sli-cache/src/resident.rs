//! Activations in memory, written out only when asked to.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, RwLock};

use sli_core::{ActivationStore, ChunkState, Generation, Result, SliError};

use crate::record::Key;
use crate::snapshot::{SavedGeneration, Snapshot};
use crate::state_dir::GENERATIONS;

/// Keeps chunks in memory. [`ActivationStore::sync`] writes all of them to its directory as a snapshot.
///
/// The last two snapshots are kept, since a crash may come between a snapshot and the commit that relies on it:
/// [`RunJournal::commit`](crate::RunJournal::commit) notes the newest snapshot of its directory, and
/// [`Resumed::snapshot`](crate::Resumed::snapshot) says which one to open. So a sync is followed by a commit before
/// the next sync.
#[derive(Debug)]
pub struct ResidentStore {
    dir: PathBuf,
    kept: RwLock<[Kept; 3]>,
    saved: Mutex<Saved>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    chunks: BTreeMap<usize, ChunkState>,
    /// Counts the changes, so that a generation that did not change is not written again.
    version: u64,
}

/// The snapshots on disk, at most two, oldest first; and the versions that the newest one holds.
#[derive(Debug, Default)]
struct Saved {
    snapshots: Vec<Snapshot>,
    versions: [u64; 3],
}

impl ResidentStore {
    /// An empty store that will write to `dir`, which is made if need be. Snapshots that lie there are removed.
    ///
    /// # Errors
    /// When the directory cannot be made or cleared.
    pub fn create(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(SliError::io("cannot make", &dir))?;
        Snapshot::remove_others(&dir, &[])?;
        Ok(Self { dir, kept: RwLock::default(), saved: Mutex::default() })
    }

    /// The store as it was at this snapshot, with all its chunks read into memory. Other snapshots are removed.
    ///
    /// # Errors
    /// When the snapshot or one of its chunks is not there or damaged.
    pub fn open(dir: impl Into<PathBuf>, snapshot: u64) -> Result<Self> {
        let dir = dir.into();
        let snapshot = Snapshot::load(&dir, snapshot)?;
        let mut kept: [Kept; 3] = Default::default();
        for generation in &snapshot.generations {
            let chunks = &mut kept[generation.generation as usize].chunks;
            generation.read(&dir, |chunk, state| state.map(|state| drop(chunks.insert(chunk, state))))?;
        }
        Snapshot::remove_others(&dir, std::slice::from_ref(&snapshot))?;
        let saved = Saved { snapshots: vec![snapshot], versions: [0; 3] };
        Ok(Self { dir, kept: RwLock::new(kept), saved: Mutex::new(saved) })
    }

    /// Bytes of all values in memory. Values that several chunks share are counted once for each.
    pub fn bytes(&self) -> u64 {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.iter().flat_map(|kept| kept.chunks.values()).map(ChunkState::bytes).sum()
    }

    fn change<T>(
        &self,
        generation: Generation,
        change: impl FnOnce(&mut BTreeMap<usize, ChunkState>) -> T,
    ) -> T {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut kept[generation as usize];
        kept.version += 1;
        change(&mut kept.chunks)
    }
}

impl ActivationStore for ResidentStore {
    fn put(&self, generation: Generation, chunk: usize, state: ChunkState) -> Result<()> {
        self.change(generation, |chunks| chunks.insert(chunk, state));
        Ok(())
    }

    fn get(&self, generation: Generation, chunk: usize) -> Result<ChunkState> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let state = kept[generation as usize].chunks.get(&chunk).cloned();
        state.ok_or_else(|| Key { generation, chunk }.missing().at(&self.dir))
    }

    fn release(&self, generation: Generation, chunk: usize) {
        self.change(generation, |chunks| chunks.remove(&chunk));
    }

    fn drop_generation(&self, generation: Generation) -> Result<()> {
        self.change(generation, BTreeMap::clear);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        // Shares the values: the store can be used while they are written.
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner).clone();

        let last = saved.snapshots.last();
        let number = last.map_or(1, |last| last.number + 1);
        let mut snapshot = Snapshot { number, generations: Vec::new() };
        for (generation, kept) in GENERATIONS.into_iter().zip(&kept) {
            let unchanged = saved.versions[generation as usize] == kept.version;
            let written = last.and_then(|last| last.generation(generation)).filter(|_| unchanged);
            match written {
                Some(written) => snapshot.generations.push(written.clone()),
                None if kept.chunks.is_empty() => {}
                None => {
                    let written = SavedGeneration::write(&self.dir, generation, number, &kept.chunks)?;
                    snapshot.generations.push(written);
                }
            }
        }
        if last.is_some_and(|last| last.generations == snapshot.generations) {
            return Ok(());
        }
        snapshot.save(&self.dir)?;
        saved.versions = kept.map(|kept| kept.version);
        saved.snapshots.push(snapshot);
        let surplus = saved.snapshots.len().saturating_sub(2);
        saved.snapshots.drain(..surplus);
        Snapshot::remove_others(&self.dir, &saved.snapshots)
    }

    fn is_durable(&self) -> bool {
        false
    }
}
