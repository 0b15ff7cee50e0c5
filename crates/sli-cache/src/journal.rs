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
    /// The snapshot of a [`ResidentStore`](crate::ResidentStore) that belongs to it; `None` when the run has made none.
    /// A run keeps to one kind of store from start to end.
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::{ActivationStore, ChunkState, Generation, ResidentStore, Rows};

    fn fingerprint() -> Fingerprint {
        Fingerprint::new().with("dtype", "f32").with("model", "tiny@abc")
    }

    fn open(dir: &TempDir) -> (RunJournal, Option<Resumed>) {
        RunJournal::open_or_create(dir.path(), &fingerprint()).unwrap()
    }

    fn at(stage: usize, chunks: usize) -> Position {
        Position { stage, chunks }
    }

    /// A journal of three commits, closed.
    fn three_commits() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(&dir);
        for i in 1..=3 {
            journal.commit(at(i, 2 * i), json!({ "text": "\n\"}", "bits": u64::MAX - i as u64 })).unwrap();
        }
        dir
    }

    #[test]
    fn a_run_goes_on_from_its_last_commit() {
        let dir = three_commits();
        let (mut journal, resumed) = open(&dir);
        let resumed = resumed.unwrap();
        assert_eq!((resumed.position, resumed.snapshot), (at(3, 6), None));
        assert_eq!(resumed.notes[1], (at(2, 4), json!({ "text": "\n\"}", "bits": u64::MAX - 2 })));
        journal.commit(at(4, 0), Value::Null).unwrap();
        drop(journal);
        assert_eq!(open(&dir).1.unwrap().notes.len(), 4);
    }

    #[test]
    fn a_run_of_something_else_is_refused() {
        let dir = three_commits();
        let other = fingerprint().with("dtype", "bf16");
        let refused = RunJournal::open_or_create(dir.path(), &other);
        let Err(SliError::OtherRun { path, differences }) = refused else { panic!("{refused:?}") };
        assert_eq!(
            (path.as_path(), &differences[..]),
            (dir.path(), &["dtype was f32, is bf16".to_string()][..])
        );
        RunJournal::fresh(dir.path()).unwrap();
        assert!(!dir.path().exists());
        assert!(RunJournal::open_or_create(dir.path(), &other).unwrap().1.is_none());
    }

    #[test]
    fn a_run_that_committed_nothing_does_not_stand_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(&dir));
        let leftover = StateFile::Spill(Generation::Even).path(dir.path());
        fs::write(&leftover, "x").unwrap();
        let other = Fingerprint::new().with("model", "another");
        assert!(RunJournal::open_or_create(dir.path(), &other).unwrap().1.is_none());
        assert!(!leftover.exists());
    }

    #[test]
    fn a_line_torn_at_any_byte_is_cut_off() {
        let dir = three_commits();
        let path = StateFile::Journal.path(dir.path());
        let whole = fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for end in last..whole.len() {
            for tail in [&b""[..], b"\0\0\0", b"\n"] {
                let torn = [&whole[..end], tail].concat();
                if torn == whole {
                    continue;
                }
                fs::write(&path, torn).unwrap();
                let (mut journal, resumed) = open(&dir);
                assert_eq!(resumed.unwrap().position, at(2, 4), "{end} and {tail:?}");
                journal.commit(at(9, 9), Value::Null).unwrap();
                drop(journal);
                assert_eq!(open(&dir).1.unwrap().position, at(9, 9));
            }
        }
    }

    #[test]
    fn damage_before_the_last_line_is_an_error_with_the_line() {
        let dir = three_commits();
        let path = StateFile::Journal.path(dir.path());
        let whole = fs::read(&path).unwrap();
        let starts: Vec<_> = std::iter::once(0)
            .chain(whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| i + 1))
            .collect();
        for (line, start) in starts[..3].iter().enumerate() {
            for at in *start..starts[line + 1] - 1 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1;
                fs::write(&path, damaged).unwrap();
                let error = RunJournal::open_or_create(dir.path(), &fingerprint()).unwrap_err().to_string();
                assert!(error.contains(&format!("line {} is damaged", line + 1)), "byte {at}: {error}");
            }
        }
        fs::write(&path, "").unwrap();
        assert!(RunJournal::open_or_create(dir.path(), &fingerprint()).is_err());
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = open(&dir);
        let refused = RunJournal::open_or_create(dir.path(), &fingerprint()).unwrap_err();
        let SliError::Usage(message) = refused else { panic!("{refused}") };
        assert!(message.contains(&format!("process {} is running in", std::process::id())), "{message}");
        assert!(matches!(RunJournal::fresh(dir.path()), Err(SliError::Usage(_))));
        drop(journal);
        open(&dir);
    }

    #[test]
    fn finishing_removes_the_state_and_nothing_else() {
        let dir = three_commits();
        let note = dir.path().join("notes.txt");
        fs::write(&note, "mine").unwrap();
        let (journal, _) = open(&dir);
        journal.finish().unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [note]);
        RunJournal::fresh(dir.path().join("nowhere")).unwrap();
    }

    /// The crash that two snapshots are kept for: the newer one is whole, but its commit was never written.
    #[test]
    fn a_snapshot_without_its_commit_is_not_used() {
        let chunk = |value| ChunkState::new(Rows::new(1, vec![value]));
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(&dir);
        let store = ResidentStore::create(dir.path()).unwrap();
        for (stage, value) in [(1, 1.0), (2, 2.0), (3, 3.0)] {
            store.put(Generation::Even, 0, chunk(value)).unwrap();
            store.sync().unwrap();
            if stage < 3 {
                journal.commit(at(stage, 0), Value::Null).unwrap();
            }
        }
        drop((store, journal));

        let (mut journal, resumed) = open(&dir);
        let resumed = resumed.unwrap();
        assert_eq!((resumed.position, resumed.snapshot), (at(2, 0), Some(2)));
        let store = ResidentStore::open(dir.path(), 2).unwrap();
        assert_eq!(store.get(Generation::Even, 0).unwrap(), chunk(2.0));
        store.put(Generation::Odd, 0, chunk(4.0)).unwrap();
        store.sync().unwrap();
        journal.commit(at(3, 0), Value::Null).unwrap();
        drop((store, journal));

        assert_eq!(open(&dir).1.unwrap().snapshot, Some(3));
        let store = ResidentStore::open(dir.path(), 3).unwrap();
        assert_eq!(store.get(Generation::Even, 0).unwrap(), chunk(2.0));
        assert_eq!(store.get(Generation::Odd, 0).unwrap(), chunk(4.0));
    }
}
