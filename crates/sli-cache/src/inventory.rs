//! What runs have left: state directories, whether they can be resumed, and clearing them away.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sli_core::{ActivationStore, ByteSize, ChunkState, Position, Result, SliError};

use crate::fingerprint::Fingerprint;
use crate::journal::{JournalText, RunJournal};
use crate::lock::DirectoryLock;
use crate::record::ChunkError;
use crate::snapshot::Snapshot;
use crate::spilled::SpilledStore;
use crate::state_dir::{StateFile, state_files};

/// How far below the directory that a user names state directories are looked for.
const DEPTH: usize = 3;

/// The state directory of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationState {
    /// The directory.
    pub path: PathBuf,
    /// Bytes of the run's files in it, as their lengths say.
    pub bytes: ByteSize,
    /// What can be done with it.
    pub condition: Condition,
    /// The last commit.
    pub position: Option<Position>,
    /// Number of commits.
    pub commits: usize,
    /// What the run was.
    pub fingerprint: Option<Fingerprint>,
}

/// What can be done with a state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// A process is at work in it.
    Running,
    /// The same run can go on from the last commit.
    Resumable,
    /// No run that could go on: it never committed anything, or what remains of it is only activations.
    Leftover,
    /// The journal cannot be used.
    Damaged(String),
}

/// What [`verify_activations`] found in a state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Chunks that are whole.
    pub chunks: usize,
    /// Bytes of their values.
    pub bytes: ByteSize,
    /// A phrase for each chunk that is not. A killed run may leave one behind its last commit, which resuming writes
    /// again.
    pub damaged: Vec<String>,
}

/// What [`clear_activations`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// Directories whose state was removed.
    pub removed: Vec<PathBuf>,
    /// Bytes that were freed.
    pub bytes: ByteSize,
    /// Directories that were left, since a process is at work in them.
    pub running: Vec<PathBuf>,
}

/// The state directories at `root` and up to three levels below it, by path. Links are not followed.
///
/// # Errors
/// When a directory cannot be listed or a lock cannot be looked at.
pub fn activation_states(root: impl AsRef<Path>) -> Result<Vec<ActivationState>> {
    let mut states = Vec::new();
    collect(root.as_ref(), DEPTH, &mut states)?;
    states.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(states)
}

/// Reads every chunk that lies in a state directory and checks it.
///
/// # Errors
/// When what says where the chunks lie cannot be read.
pub fn verify_activations(dir: impl AsRef<Path>) -> Result<Verification> {
    let dir = dir.as_ref();
    let mut found = Verification::default();
    let files = state_files(dir)?;
    if files.iter().any(|found| found.file == StateFile::Slots && !found.partial) {
        let store = SpilledStore::open(dir)?;
        for (generation, chunk) in store.slots() {
            let state = store.get(generation, chunk);
            if !state.as_ref().is_err_and(was_never_put) {
                found.count(state);
            }
        }
    }
    if let Some(number) = Snapshot::newest(dir)? {
        for saved in Snapshot::load(dir, number)?.generations {
            saved.read(dir, |_, state| {
                found.count(state);
                Ok(())
            })?;
        }
    }
    Ok(found)
}

/// Removes the state of all runs at `root` and below it, save those at work. Only files that runs make are removed.
///
/// # Errors
/// When files cannot be removed.
pub fn clear_activations(root: impl AsRef<Path>) -> Result<Cleared> {
    let mut cleared = Cleared::default();
    for state in activation_states(root)? {
        if state.condition == Condition::Running {
            cleared.running.push(state.path);
        } else {
            RunJournal::fresh(&state.path)?;
            cleared.bytes.0 += state.bytes.0;
            cleared.removed.push(state.path);
        }
    }
    Ok(cleared)
}

impl Verification {
    fn count(&mut self, state: Result<ChunkState>) {
        match state {
            Ok(state) => {
                self.chunks += 1;
                self.bytes.0 += state.bytes();
            }
            Err(error) => self.damaged.push(error.to_string()),
        }
    }
}

fn was_never_put(error: &SliError) -> bool {
    let SliError::Io { source, .. } = error else { return false };
    let chunk_error = source.get_ref().and_then(|source| source.downcast_ref());
    matches!(chunk_error, Some(ChunkError::Missing { .. }))
}

fn collect(dir: &Path, depth: usize, states: &mut Vec<ActivationState>) -> Result<()> {
    states.extend(describe(dir)?);
    if depth == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(SliError::io("cannot list", dir))? {
        let entry = entry.map_err(SliError::io("cannot list", dir))?;
        // Of the entry itself: a link to a directory is none.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), depth - 1, states)?;
        }
    }
    Ok(())
}

/// The state in one directory; `None` when there is none.
fn describe(dir: &Path) -> Result<Option<ActivationState>> {
    let files = state_files(dir)?;
    if files.is_empty() {
        return Ok(None);
    }
    // A file may go away meanwhile, when a process is at work.
    let bytes = files.iter().filter_map(|found| fs::metadata(&found.path).ok()).map(|data| data.len()).sum();
    let running = DirectoryLock::is_held(dir)?;
    let (journal, damage) = match JournalText::read(dir) {
        Ok(journal) => (journal, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let resumed = journal.as_ref().and_then(JournalText::resumed);
    let condition = match damage {
        _ if running => Condition::Running,
        Some(damage) => Condition::Damaged(damage),
        None if resumed.is_some() => Condition::Resumable,
        None => Condition::Leftover,
    };
    Ok(Some(ActivationState {
        path: dir.into(),
        bytes: ByteSize(bytes),
        condition,
        position: resumed.as_ref().map(|resumed| resumed.position),
        commits: resumed.map_or(0, |resumed| resumed.notes.len()),
        fingerprint: journal.map(|journal| journal.fingerprint),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use sli_core::{Generation, Rows};

    use super::*;
    use crate::{ResidentStore, SlotLayout};

    fn chunk() -> ChunkState {
        ChunkState::new(Rows::new(2, vec![1.0; 8]))
    }

    fn begin(dir: &Path) -> RunJournal {
        RunJournal::open_or_create(dir, &Fingerprint::new().with("model", "tiny")).unwrap().0
    }

    #[test]
    fn tells_what_lies_below_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str| root.path().join(name).join(".activations");
        fs::create_dir_all(root.path().join("empty/hidden")).unwrap();
        let mut running = begin(&dir("a"));
        running.commit(Position { stage: 1, chunks: 2 }, Value::Null).unwrap();
        let mut stopped = begin(&dir("b"));
        let position = Position { stage: 3, chunks: 0 };
        stopped.commit(position, Value::Null).unwrap();
        drop(stopped);
        drop(begin(&dir("c")));
        fs::create_dir_all(dir("d")).unwrap();
        fs::write(StateFile::Journal.path(&dir("d")), "garbage").unwrap();

        let states = activation_states(root.path()).unwrap();
        let conditions: Vec<_> = states.iter().map(|state| &state.condition).collect();
        let [Condition::Running, Condition::Resumable, Condition::Leftover, Condition::Damaged(_)] =
            conditions[..]
        else {
            panic!("{conditions:?}")
        };
        assert_eq!((states[1].position, states[1].commits), (Some(position), 1));
        assert_eq!(states[1].fingerprint.as_ref().unwrap().get("model"), Some("tiny"));

        let cleared = clear_activations(root.path()).unwrap();
        assert_eq!(cleared.running, [dir("a")]);
        assert_eq!(cleared.removed, [dir("b"), dir("c"), dir("d")]);
        assert_eq!(cleared.bytes.0, states[1..].iter().map(|state| state.bytes.0).sum::<u64>());
        assert_eq!(activation_states(root.path()).unwrap().len(), 1);
        assert!(!dir("b").exists());
    }

    #[test]
    fn verifying_reads_every_chunk_of_either_store() {
        let dir = tempfile::tempdir().unwrap();
        let spilled = SpilledStore::create(dir.path(), &SlotLayout::from_tokens(&[4, 4, 4], 8)).unwrap();
        spilled.put(Generation::Even, 0, chunk()).unwrap();
        spilled.put(Generation::Odd, 2, chunk()).unwrap();
        let resident = ResidentStore::create(dir.path()).unwrap();
        resident.put(Generation::Even, 7, chunk()).unwrap();
        resident.sync().unwrap();
        let whole = Verification { chunks: 3, bytes: ByteSize(96), damaged: Vec::new() };
        assert_eq!(verify_activations(dir.path()).unwrap(), whole);

        let file =
            fs::OpenOptions::new().write(true).open(StateFile::Spill(Generation::Odd).path(dir.path()));
        file.unwrap().set_len(3 * 8192 - 4090).unwrap();
        let cut = verify_activations(dir.path()).unwrap();
        assert_eq!(cut.chunks, 2);
        assert!(cut.damaged[0].contains("chunk 2 of generation 'odd' is damaged"), "{:?}", cut.damaged);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(activation_states("/nowhere/at/all").is_err());
    }
}
