//! Files that appear whole or not at all: written under another name beside their place, synced, renamed into it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sli_core::{Result, SliError};

/// The ending of a file that is still being written.
pub(crate) const PARTIAL: &str = ".partial";

/// A file that gets its name only when it is complete. Until then it is called `NAME.partial`.
///
/// One writer per name: two that write the same file at the same time write into each other's partial file.
/// Dropped without [`AtomicFile::finish`] or [`AtomicFile::keep`], it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    path: PathBuf,
    partial: PathBuf,
    settled: bool,
}

impl AtomicFile {
    /// Starts a file that will be called `path`. What an earlier attempt left under the partial name is discarded.
    ///
    /// # Errors
    /// When the partial file cannot be made.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        Self::with(path.into(), OpenOptions::new().read(true).write(true).create(true).truncate(true))
    }

    /// Goes on with the partial file that [`AtomicFile::keep`] or a crash left. What it holds is right up to the last
    /// [`AtomicFile::sync`].
    ///
    /// # Errors
    /// When there is none.
    pub fn reopen(path: impl Into<PathBuf>) -> Result<Self> {
        Self::with(path.into(), OpenOptions::new().read(true).write(true))
    }

    fn with(path: PathBuf, options: &OpenOptions) -> Result<Self> {
        let mut name = OsString::from(&path);
        name.push(PARTIAL);
        let partial = PathBuf::from(name);
        let file = options.open(&partial).map_err(SliError::io("cannot write", &partial))?;
        Ok(Self { file, path, partial, settled: false })
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it stands, for reading back what was written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes all of `bytes` at `offset`. Several threads may write at the same time.
    ///
    /// # Errors
    /// When the bytes cannot be written, as on a full disk.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(SliError::io("cannot write", &self.partial))
    }

    /// Makes what is written so far survive a crash, under the partial name.
    ///
    /// # Errors
    /// When the file cannot be synced.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(SliError::io("cannot sync", &self.partial))?;
        sync_directory(parent(&self.path))
    }

    /// Syncs and leaves the partial file for [`AtomicFile::reopen`].
    ///
    /// # Errors
    /// When the file cannot be synced. It is left all the same.
    pub fn keep(mut self) -> Result<()> {
        self.settled = true;
        self.sync()
    }

    /// Syncs and gives the file its name, in place of a file that may have had it before.
    ///
    /// # Errors
    /// When the file cannot be synced or renamed.
    pub fn finish(mut self) -> Result<()> {
        self.file.sync_all().map_err(SliError::io("cannot sync", &self.partial))?;
        fs::rename(&self.partial, &self.path).map_err(SliError::io("cannot write", &self.path))?;
        self.settled = true;
        sync_directory(parent(&self.path))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.settled
            && let Err(error) = fs::remove_file(&self.partial)
        {
            tracing::warn!("cannot remove {}: {error}", self.partial.display());
        }
    }
}

/// Writes a small file whole or not at all.
///
/// # Errors
/// When it cannot be written, synced or renamed.
pub fn write_atomically(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<()> {
    let file = AtomicFile::create(path)?;
    file.write_at(bytes, 0)?;
    file.finish()
}

/// Makes the names in a directory survive a crash.
pub(crate) fn sync_directory(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(SliError::io("cannot sync", dir))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hidden.safetensors");
        fs::write(&path, "old").unwrap();
        let file = AtomicFile::create(&path).unwrap();
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello ", 0).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"hello world");
        assert_eq!(names(dir.path()), ["hidden.safetensors"]);
    }

    #[test]
    fn an_unfinished_file_is_removed_unless_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        drop(AtomicFile::create(&path).unwrap());
        assert!(names(dir.path()).is_empty());
        assert!(AtomicFile::reopen(&path).is_err());

        let file = AtomicFile::create(&path).unwrap();
        file.write_at(b"ab", 0).unwrap();
        file.keep().unwrap();
        assert_eq!(names(dir.path()), ["a.partial"]);
        let file = AtomicFile::reopen(&path).unwrap();
        file.write_at(b"c", 2).unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
    }

    #[test]
    fn errors_name_the_file() {
        let error = write_atomically("/nowhere/at/all", b"").unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }

    #[test]
    fn a_name_without_a_directory_lies_in_the_present_one() {
        assert_eq!(parent(Path::new("run.json")), Path::new("."));
        assert_eq!(parent(Path::new("out/run.json")), Path::new("out"));
    }
}
