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
}

#[derive(Debug)]
struct SpillFile {
    generation: Generation,
    path: PathBuf,
    slots: Vec<Slot>,
    file: RwLock<Option<Arc<File>>>,
    /// Was it made since the last sync, so that a crash might take back its name?
    name_unsynced: AtomicBool,
    /// Was it written since the last sync?
    values_unsynced: AtomicBool,
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
        Ok(Self { files: [even?, odd?, encoder_output?], dir })
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
        Ok(Self {
            generation,
            path,
            slots: layout.slots(generation),
            file: RwLock::new(file),
            name_unsynced: AtomicBool::new(false),
            values_unsynced: AtomicBool::new(false),
        })
    }

    fn opened(&self) -> Option<Arc<File>> {
        self.file.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file, made if it is not there.
    fn opened_or_made(&self) -> Result<Arc<File>> {
        if let Some(file) = self.opened() {
            return Ok(file);
        }
        let mut file = self.file.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*file {
            return Ok(file.clone());
        }
        let made = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&self.path);
        let made = Arc::new(made.map_err(SliError::io("cannot write", &self.path))?);
        self.name_unsynced.store(true, Ordering::Release);
        *file = Some(made.clone());
        Ok(made)
    }
}

impl ActivationStore for SpilledStore {
    fn put(&self, generation: Generation, chunk: usize, state: ChunkState) -> Result<()> {
        let spill = self.file(generation);
        let (slot, bytes) = (spill.slots.get(chunk), state.bytes());
        let Some(Slot { offset, .. }) = slot.filter(|slot| bytes <= slot.capacity).copied() else {
            let capacity = slot.map_or(0, |slot| slot.capacity);
            return Err(ChunkError::TooLarge { generation, chunk, bytes, capacity }.at(&spill.path));
        };
        let file = spill.opened_or_made()?;
        record::write(&file, &spill.path, offset, Key { generation, chunk }, &state)?;
        // After the write: a sync that runs meanwhile must not take it for synced.
        spill.values_unsynced.store(true, Ordering::Release);
        Ok(())
    }

    fn get(&self, generation: Generation, chunk: usize) -> Result<ChunkState> {
        let spill = self.file(generation);
        let key = Key { generation, chunk };
        let missing = || key.missing().at(&spill.path);
        let Slot { offset, capacity } = *spill.slots.get(chunk).ok_or_else(missing)?;
        let file = spill.opened().ok_or_else(missing)?;
        record::read(&file, &spill.path, offset, capacity, key)
    }

    fn release(&self, _: Generation, _: usize) {}

    fn drop_generation(&self, generation: Generation) -> Result<()> {
        let spill = self.file(generation);
        // Held to the end, so that no new file is removed in place of the old one.
        let mut file = spill.file.write().unwrap_or_else(PoisonError::into_inner);
        spill.values_unsynced.store(false, Ordering::Release);
        if file.take().is_some() {
            fs::remove_file(&spill.path).map_err(SliError::io("cannot remove", &spill.path))?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        for spill in &self.files {
            // What could not be synced is still to be synced.
            if spill.values_unsynced.swap(false, Ordering::AcqRel)
                && let Some(file) = spill.opened()
            {
                let synced = file.sync_data().map_err(SliError::io("cannot sync", &spill.path));
                synced.inspect_err(|_| spill.values_unsynced.store(true, Ordering::Release))?;
            }
            if spill.name_unsynced.swap(false, Ordering::AcqRel) {
                let synced = sync_directory(&self.dir);
                synced.inspect_err(|_| spill.name_unsynced.store(true, Ordering::Release))?;
            }
        }
        Ok(())
    }

    fn is_durable(&self) -> bool {
        true
    }
}
