//! How far a run has come, in a file that only grows.
//!
//! Each line of `sli-run.jsonl` is `{"checksum":"<CRC-32 of the entry's text>","entry":<entry>}`. The first entry is
//! the run's fingerprint, each further one a commit. A line is synced before [`RunJournal::commit`] returns, so a
//! crash can only tear the last one, which is then cut off.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sli_core::{Position, Result, SliError};

use crate::atomic::{sync_directory, write_atomically};
use crate::fingerprint::Fingerprint;
use crate::lock::DirectoryLock;
use crate::snapshot::Snapshot;
use crate::state_dir::{StateFile, remove_files};

/// The journal of the run in a directory, and the right to be the only one there.
///
/// What a commit relies on must be durable before: [`ActivationStore::sync`](sli_core::ActivationStore::sync) comes
/// first, [`RunJournal::commit`] after.
#[derive(Debug)]
pub struct RunJournal {
    dir: PathBuf,
    path: PathBuf,
    file: File,
    /// Where the next line goes.
    length: u64,
    lock: DirectoryLock,
}

/// Where an unfinished run stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumed {
    /// The last commit.
    pub position: Position,
    /// The snapshot of a [`ResidentStore`](crate::ResidentStore) that belongs to it, where one was made.
    pub snapshot: Option<u64>,
    /// All commits with their notes, oldest first.
    pub notes: Vec<(Position, Value)>,
}

#[derive(Serialize, Deserialize)]
struct Commit {
    position: Position,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<u64>,
    note: Value,
}

impl RunJournal {
    /// Goes on with the unfinished run in `dir`, or starts one there. The directory is made if need be. A run that
    /// never committed anything counts as none, and what it left is removed.
    ///
    /// # Errors
    /// [`SliError::OtherRun`] when an unfinished run of something else lies there, [`SliError::Usage`] when another
    /// process is running there, and [`SliError::Io`] when files cannot be read or written or the journal is damaged
    /// before its last line.
    pub fn open_or_create(
        dir: impl Into<PathBuf>,
        fingerprint: &Fingerprint,
    ) -> Result<(Self, Option<Resumed>)> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(SliError::io("cannot make", &dir))?;
        let lock = DirectoryLock::acquire(&dir)?;
        let path = StateFile::Journal.path(&dir);

        let journal = JournalText::read(&dir)?.and_then(|text| Some((text.resumed()?, text)));
        let (length, resumed) = match journal {
            Some((resumed, text)) => {
                let differences = text.fingerprint.differences(fingerprint);
                if !differences.is_empty() {
                    return Err(SliError::OtherRun { path: dir, differences });
                }
                (text.length, Some(resumed))
            }
            None => {
                remove_files(&dir, |found| found.file != StateFile::Lock)?;
                let line = encode_line(fingerprint);
                write_atomically(&path, line.as_bytes())?;
                (line.len() as u64, None)
            }
        };
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(SliError::io("cannot open", &path))?;
        file.set_len(length).map_err(SliError::io("cannot write", &path))?;
        Ok((Self { dir, path, file, length, lock }, resumed))
    }

    /// Discards the run in `dir`, finished or not. Files that no run makes are left.
    ///
    /// # Errors
    /// When another process is running there, or files cannot be removed.
    pub fn fresh(dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        if dir.exists() { remove_state(dir, DirectoryLock::acquire(dir)?) } else { Ok(()) }
    }

    /// The run's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says that everything up to `position` is done and durable. When this returns, the commit survives a crash.
    ///
    /// The note is given back on resuming. JSON has no NaN and no infinity, and a fraction may come back with another
    /// last bit: where bits count, note [`f64::to_bits`].
    ///
    /// # Errors
    /// When the line cannot be written or synced; the former commit then still holds.
    pub fn commit(&mut self, position: Position, note: Value) -> Result<()> {
        let snapshot = Snapshot::newest(&self.dir)?;
        let line = encode_line(&Commit { position, snapshot, note });
        self.file
            .write_all_at(line.as_bytes(), self.length)
            .map_err(SliError::io("cannot write", &self.path))?;
        self.file.sync_data().map_err(SliError::io("cannot sync", &self.path))?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Ends the run: removes journal, activations and lock, and the directory when nothing else is in it.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn finish(self) -> Result<()> {
        remove_state(&self.dir, self.lock)
    }
}

fn remove_state(dir: &Path, lock: DirectoryLock) -> Result<()> {
    // The journal first: without it, the rest is no run but rubbish that the next one clears away.
    remove_files(dir, |found| found.file == StateFile::Journal)?;
    sync_directory(dir)?;
    remove_files(dir, |found| found.file != StateFile::Lock)?;
    lock.remove()?;
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.map_err(SliError::io("cannot remove", dir)),
    }
}

/// What a journal says.
pub(crate) struct JournalText {
    pub(crate) fingerprint: Fingerprint,
    commits: Vec<Commit>,
    /// Bytes of the lines that are whole.
    length: u64,
}

impl JournalText {
    /// Reads the journal of a directory; `None` when there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = StateFile::Journal.path(dir);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(SliError::io("cannot read", &path))?,
        };
        Self::parse(&bytes).map(Some).map_err(|line| {
            let message = format!("line {line} is damaged; discard the unfinished run with --fresh");
            SliError::io("cannot resume from", &path)(io::Error::new(io::ErrorKind::InvalidData, message))
        })
    }

    pub(crate) fn resumed(&self) -> Option<Resumed> {
        let Commit { position, snapshot, .. } = *self.commits.last()?;
        let notes = self.commits.iter().map(|commit| (commit.position, commit.note.clone())).collect();
        Some(Resumed { position, snapshot, notes })
    }

    /// The error is the number of the damaged line. Only the last line may be torn, and never the first, which was
    /// written whole.
    fn parse(bytes: &[u8]) -> Result<Self, usize> {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
        let first = lines.next().map_or(&[][..], |(_, line)| line);
        let fingerprint = decode_line(first).ok_or(1usize)?;
        let mut text = Self { fingerprint, commits: Vec::new(), length: first.len() as u64 };
        while let Some((index, line)) = lines.next() {
            match decode_line(line) {
                Some(commit) => text.commits.push(commit),
                None if lines.next().is_none() => break,
                None => return Err(index + 1),
            }
            text.length += line.len() as u64;
        }
        Ok(text)
    }
}

const BEFORE_CHECKSUM: &str = r#"{"checksum":""#;
const BEFORE_ENTRY: &str = r#"","entry":"#;

fn encode_line(entry: &impl Serialize) -> String {
    let entry = serde_json::to_string(entry).expect("an entry has only string keys");
    let checksum = crc32fast::hash(entry.as_bytes());
    format!("{BEFORE_CHECKSUM}{checksum:08x}{BEFORE_ENTRY}{entry}}}\n")
}

/// The entry of a whole line. The checksum is over the entry's text as it stands, so that it need not be written
/// again in the same way.
fn decode_line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix(BEFORE_CHECKSUM)?.strip_suffix("}\n")?;
    let (checksum, entry) = line.split_once(BEFORE_ENTRY)?;
    let matches = u32::from_str_radix(checksum, 16).ok()? == crc32fast::hash(entry.as_bytes());
    matches.then(|| serde_json::from_str(entry).ok()).flatten()
}
