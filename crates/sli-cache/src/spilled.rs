//! Activations on disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sli_core::{ActivationStore, ChunkState, Generation, Result, SliError};

use crate::atomic::sync_directory;
use crate::record::{self, ChunkError, Key};
use crate::slots::{Slot, SlotLayout};
use crate::state_dir::{GENERATIONS, StateFile, remove_files};

/// Keeps chunks on disk: a file per generation, with a slot of fixed place and size for each chunk, so that threads
/// read and write side by side and a generation is overwritten in place.
///
/// Reads and writes go through the operating system's page cache, which decides by itself what stays in memory:
/// telling it otherwise (`posix_fadvise`, `O_DIRECT`) takes calls that the standard library does not have.
///
/// A put overwrites at once what was committed in its slot. A run therefore commits each stage before it starts the
/// one that overwrites what the former read.
#[derive(Debug)]
pub struct SpilledStore {
    dir: PathBuf,
    files: [SpillFile; 3],
    /// Was a file made that a crash might take back?
    names_unsynced: AtomicBool,
}

#[derive(Debug)]
struct SpillFile {
    generation: Generation,
    path: PathBuf,
    slots: Vec<Slot>,
    file: RwLock<Option<Arc<File>>>,
    /// Was it written since the last sync?
    unsynced: AtomicBool,
}

impl SpilledStore {
    /// An empty store in `dir`, which is made if need be. A spilled store that lies there is removed.
    ///
    /// # Errors
    /// When the directory cannot be made or cleared.
    pub fn create(dir: impl Into<PathBuf>, layout: &SlotLayout) -> Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(SliError::io("cannot make", &dir))?;
        remove_files(&dir, |found| matches!(found.file, StateFile::Slots | StateFile::Spill(_)))?;
        layout.save(&dir)?;
        Self::with_layout(dir, layout)
    }

    /// The store that an earlier process made in `dir`, with the layout that it had.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        let layout = SlotLayout::load(&dir)?;
        Self::with_layout(dir, &layout)
    }

    fn with_layout(dir: PathBuf, layout: &SlotLayout) -> Result<Self> {
        let [even, odd, encoder_output] =
            GENERATIONS.map(|generation| SpillFile::open(&dir, generation, layout));
        Ok(Self { files: [even?, odd?, encoder_output?], dir, names_unsynced: AtomicBool::new(false) })
    }

    /// All that have a slot, put or not.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (Generation, usize)> {
        self.files.iter().flat_map(|file| (0..file.slots.len()).map(|chunk| (file.generation, chunk)))
    }

    fn file(&self, generation: Generation) -> &SpillFile {
        &self.files[generation as usize]
    }
}

impl SpillFile {
    fn open(dir: &Path, generation: Generation, layout: &SlotLayout) -> Result<Self> {
        let path = StateFile::Spill(generation).path(dir);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(Arc::new(other.map_err(SliError::io("cannot open", &path))?)),
        };
        let slots = layout.slots(generation);
        Ok(Self { generation, path, slots, file: RwLock::new(file), unsynced: AtomicBool::new(false) })
    }

    fn slot(&self, chunk: usize) -> Result<Slot> {
        let missing = || Key { generation: self.generation, chunk }.missing().at(&self.path);
        self.slots.get(chunk).copied().ok_or_else(missing)
    }

    fn opened(&self) -> Option<Arc<File>> {
        self.file.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file, made if it is not there; and whether it was made just now.
    fn opened_or_made(&self) -> Result<(Arc<File>, bool)> {
        if let Some(file) = self.opened() {
            return Ok((file, false));
        }
        let mut slot = self.file.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            return Ok((file.clone(), false));
        }
        let made = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&self.path);
        let made = Arc::new(made.map_err(SliError::io("cannot write", &self.path))?);
        *slot = Some(made.clone());
        Ok((made, true))
    }
}

impl ActivationStore for SpilledStore {
    fn put(&self, generation: Generation, chunk: usize, state: ChunkState) -> Result<()> {
        let spill = self.file(generation);
        let Slot { offset, capacity } = spill.slot(chunk)?;
        let bytes = state.bytes();
        if bytes > capacity {
            return Err(ChunkError::TooLarge { generation, chunk, bytes, capacity }.at(&spill.path));
        }
        let (file, made) = spill.opened_or_made()?;
        record::write(&file, &spill.path, offset, Key { generation, chunk }, &state)?;
        // After the write: a sync that runs meanwhile must not take it for synced.
        spill.unsynced.store(true, Ordering::Release);
        self.names_unsynced.fetch_or(made, Ordering::Release);
        Ok(())
    }

    fn get(&self, generation: Generation, chunk: usize) -> Result<ChunkState> {
        let spill = self.file(generation);
        let key = Key { generation, chunk };
        let Slot { offset, capacity } = spill.slot(chunk)?;
        let file = spill.opened().ok_or_else(|| key.missing().at(&spill.path))?;
        record::read(&file, &spill.path, offset, capacity, key)
    }

    fn release(&self, _: Generation, _: usize) {}

    fn drop_generation(&self, generation: Generation) -> Result<()> {
        let spill = self.file(generation);
        let dropped = spill.file.write().unwrap_or_else(PoisonError::into_inner).take();
        spill.unsynced.store(false, Ordering::Release);
        if dropped.is_some() {
            fs::remove_file(&spill.path).map_err(SliError::io("cannot remove", &spill.path))?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        for spill in &self.files {
            if spill.unsynced.swap(false, Ordering::AcqRel)
                && let Some(file) = spill.opened()
            {
                sync_file(&file, &spill.path)
                    .inspect_err(|_| spill.unsynced.store(true, Ordering::Release))?;
            }
        }
        if self.names_unsynced.swap(false, Ordering::AcqRel) {
            sync_directory(&self.dir).inspect_err(|_| self.names_unsynced.store(true, Ordering::Release))?;
        }
        Ok(())
    }

    fn is_durable(&self) -> bool {
        true
    }
}

fn sync_file(file: &File, path: &Path) -> Result<()> {
    file.sync_data().map_err(SliError::io("cannot sync", path))
}
