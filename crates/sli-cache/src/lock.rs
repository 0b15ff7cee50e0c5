//! One process per directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use sli_core::{Result, SliError};

use crate::state_dir::StateFile;

/// An exclusive lock on a directory, held until it is dropped or the process ends in any way. The lock file holds the
/// process id, for people.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
    path: PathBuf,
}

impl DirectoryLock {
    pub(crate) fn acquire(dir: &Path) -> Result<Self> {
        let path = StateFile::Lock.path(dir);
        loop {
            let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
            let file = options.open(&path).map_err(SliError::io("cannot open", &path))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Err(in_use(dir, &path)),
                Err(TryLockError::Error(error)) => return Err(SliError::io("cannot lock", &path)(error)),
                Ok(()) => {}
            }
            // The former holder may have removed the file between our opening and locking it.
            if is_at(&file, &path) {
                let id = format!("{}\n", std::process::id());
                let written = file.set_len(0).and_then(|()| file.write_all_at(id.as_bytes(), 0));
                written.map_err(SliError::io("cannot write", &path))?;
                return Ok(Self { file, path });
            }
        }
    }

    /// Does another process (or another journal in this one) hold the lock of this directory?
    pub(crate) fn is_held(dir: &Path) -> Result<bool> {
        let path = StateFile::Lock.path(dir);
        match File::open(&path).map(|file| file.try_lock()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) | Ok(Err(TryLockError::Error(error))) => {
                Err(SliError::io("cannot lock", &path)(error))
            }
            Ok(Err(TryLockError::WouldBlock)) => Ok(true),
            Ok(Ok(())) => Ok(false),
        }
    }

    /// Removes the lock file and lets go.
    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(SliError::io("cannot remove", &self.path))
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file would not do while a process that was just forked off still has a copy of it.
        if let Err(error) = self.file.unlock() {
            tracing::warn!("cannot unlock {}: {error}", self.path.display());
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn in_use(dir: &Path, lock: &Path) -> SliError {
    let id = fs::read_to_string(lock).unwrap_or_default();
    let who = if id.trim().is_empty() { "another process".into() } else { format!("process {}", id.trim()) };
    SliError::Usage(format!(
        "{who} is running in {}: wait for it to end, or choose another directory",
        dir.display()
    ))
}
