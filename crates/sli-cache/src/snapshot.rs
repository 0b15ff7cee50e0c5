//! What a [`ResidentStore`](crate::ResidentStore) leaves on disk: a file per generation, and a manifest that names
//! the files that belong together. A snapshot exists when its manifest does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sli_core::{ChunkState, Generation, Result, SliError};

use crate::atomic::{AtomicFile, write_atomically};
use crate::record::{self, Key, record_bytes};
use crate::state_dir::{StateFile, remove_files, state_files};

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) number: u64,
    pub(crate) generations: Vec<SavedGeneration>,
}

/// A generation's file. `number` is that of the snapshot that wrote it; later ones may refer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedGeneration {
    pub(crate) generation: Generation,
    pub(crate) number: u64,
    pub(crate) chunks: Vec<SavedChunk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedChunk {
    pub(crate) chunk: usize,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Snapshot {
    pub(crate) fn generation(&self, generation: Generation) -> Option<&SavedGeneration> {
        self.generations.iter().find(|saved| saved.generation == generation)
    }

    /// Writes the manifest, once all files that it names are written.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).expect("a manifest of numbers is JSON");
        write_atomically(StateFile::Manifest(self.number).path(dir), &text)
    }

    pub(crate) fn load(dir: &Path, number: u64) -> Result<Self> {
        let path = StateFile::Manifest(number).path(dir);
        let text = fs::read(&path).map_err(SliError::io("cannot read", &path))?;
        serde_json::from_slice(&text).map_err(io::Error::from).map_err(SliError::io("cannot read", &path))
    }

    /// The number of the newest snapshot in a directory.
    pub(crate) fn newest(dir: &Path) -> Result<Option<u64>> {
        let whole = state_files(dir)?.into_iter().filter(|found| !found.partial);
        Ok(whole.filter_map(|found| found.file.manifest()).max())
    }

    /// Removes all snapshot files but those that belong to `kept`.
    pub(crate) fn remove_others(dir: &Path, kept: &[Self]) -> Result<()> {
        remove_files(dir, |found| match found.file {
            StateFile::Manifest(number) => found.partial || kept.iter().all(|other| other.number != number),
            StateFile::Chunks(generation, number) => {
                let mut files = kept.iter().filter_map(|snapshot| snapshot.generation(generation));
                found.partial || files.all(|saved| saved.number != number)
            }
            _ => false,
        })
    }
}

impl SavedGeneration {
    /// Writes the chunks of a generation, one after another.
    pub(crate) fn write(
        dir: &Path,
        generation: Generation,
        number: u64,
        chunks: &BTreeMap<usize, ChunkState>,
    ) -> Result<Self> {
        let mut saved = Vec::with_capacity(chunks.len());
        let file = AtomicFile::create(StateFile::Chunks(generation, number).path(dir))?;
        let mut offset = 0;
        for (&chunk, state) in chunks {
            record::write(file.file(), file.path(), offset, Key { generation, chunk }, state)?;
            saved.push(SavedChunk { chunk, offset, bytes: state.bytes() });
            offset += record_bytes(state.bytes());
        }
        file.finish()?;
        Ok(Self { generation, number, chunks: saved })
    }

    /// Reads all its chunks and hands them to `each`, errors included.
    pub(crate) fn read(
        &self,
        dir: &Path,
        mut each: impl FnMut(usize, Result<ChunkState>) -> Result<()>,
    ) -> Result<()> {
        let path = StateFile::Chunks(self.generation, self.number).path(dir);
        let file = File::open(&path).map_err(SliError::io("cannot read", &path))?;
        for saved in &self.chunks {
            let key = Key { generation: self.generation, chunk: saved.chunk };
            each(saved.chunk, record::read(&file, &path, saved.offset, saved.bytes, key))?;
        }
        Ok(())
    }
}
