//! The files of a run's state directory, by name. Nothing else in the directory is ever touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sli_core::{Generation, Result, SliError};

use crate::atomic::PARTIAL;
use crate::record::generation_name;

/// All generations, in the order of their discriminants.
pub(crate) const GENERATIONS: [Generation; 3] =
    [Generation::Even, Generation::Odd, Generation::EncoderOutput];

/// What every name begins with, since a user may have named a directory that holds other things too.
const PREFIX: &str = "sli-";

/// What a file of the state directory is. The names are given after [`PREFIX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateFile {
    /// The journal of commits: `run.jsonl`.
    Journal,
    /// Held by the process that runs here: `run.lock`.
    Lock,
    /// The slots of a spilled store: `slots.json`.
    Slots,
    /// A generation of a spilled store: `even.spill`.
    Spill(Generation),
    /// The manifest of a snapshot: `snapshot.3.json`.
    Manifest(u64),
    /// A generation as one of the snapshots wrote it: `even.3.chunks`.
    Chunks(Generation, u64),
}

impl StateFile {
    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        let name = match self {
            Self::Journal => "run.jsonl".to_string(),
            Self::Lock => "run.lock".to_string(),
            Self::Slots => "slots.json".to_string(),
            Self::Spill(generation) => format!("{}.spill", generation_name(generation)),
            Self::Manifest(number) => format!("snapshot.{number}.json"),
            Self::Chunks(generation, number) => format!("{}.{number}.chunks", generation_name(generation)),
        };
        dir.join(format!("{PREFIX}{name}"))
    }

    /// The number of the snapshot whose manifest it is.
    pub(crate) fn manifest(self) -> Option<u64> {
        match self {
            Self::Manifest(number) => Some(number),
            _ => None,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let generation = |name: &str| GENERATIONS.into_iter().find(|g| generation_name(*g) == name);
        match name.strip_prefix(PREFIX)?.split('.').collect::<Vec<_>>()[..] {
            ["run", "jsonl"] => Some(Self::Journal),
            ["run", "lock"] => Some(Self::Lock),
            ["slots", "json"] => Some(Self::Slots),
            [name, "spill"] => generation(name).map(Self::Spill),
            ["snapshot", number, "json"] => number.parse().ok().map(Self::Manifest),
            [name, number, "chunks"] => Some(Self::Chunks(generation(name)?, number.parse().ok()?)),
            _ => None,
        }
    }
}

/// A file found in a state directory.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) file: StateFile,
    /// Was it left unfinished?
    pub(crate) partial: bool,
}

/// The state files in a directory; none when there is no such directory.
pub(crate) fn state_files(dir: &Path) -> Result<Vec<Found>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(SliError::io("cannot list", dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(SliError::io("cannot list", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let (name, partial) = name.strip_suffix(PARTIAL).map_or((name, false), |name| (name, true));
        if let Some(file) = StateFile::from_name(name) {
            found.push(Found { path: entry.path(), file, partial });
        }
    }
    Ok(found)
}

/// Removes those state files that `unwanted` picks, manifests first, so that none is left without its files.
pub(crate) fn remove_files(dir: &Path, unwanted: impl Fn(&Found) -> bool) -> Result<()> {
    let mut files = state_files(dir)?;
    files.retain(unwanted);
    files.sort_by_key(|found| found.file.manifest().is_none());
    for Found { path, .. } in files {
        fs::remove_file(&path).map_err(SliError::io("cannot remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files_agree() {
        for file in [
            StateFile::Journal,
            StateFile::Lock,
            StateFile::Slots,
            StateFile::Spill(Generation::EncoderOutput),
            StateFile::Manifest(12),
            StateFile::Chunks(Generation::Odd, 3),
        ] {
            let path = file.path(Path::new("dir"));
            assert_eq!(StateFile::from_name(path.file_name().unwrap().to_str().unwrap()), Some(file));
        }
        for name in ["run.jsonl", "sli-snapshot.json", "sli-layer.3.chunks", "sli-even.x.chunks", "sli-", ""]
        {
            assert_eq!(StateFile::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["sli-even.spill", "sli-even.spill.partial", "notes.txt", "sli-snapshot.1.json"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        assert_eq!(state_files(dir.path()).unwrap().len(), 3);
        remove_files(dir.path(), |found| found.file != StateFile::Manifest(1)).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["notes.txt", "sli-snapshot.1.json"]);
        assert!(state_files(&dir.path().join("nowhere")).unwrap().is_empty());
    }
}
