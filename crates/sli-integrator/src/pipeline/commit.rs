//! Making progress durable.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sli_cache::{Resumed, RunJournal};
use sli_core::{ActivationStore, Position, Result, SliError};
use sli_moe::RouterLoad;

use crate::output::LayerProfile;
use crate::pipeline::writer::Writer;

/// What a commit says besides the position.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The chunk size, which has to stay the same.
    pub(crate) chunk_tokens: usize,
    /// Seconds of work so far.
    pub(crate) seconds: f64,
    /// Weight bytes read so far.
    pub(crate) bytes_read: u64,
    /// Stages that ended since the last commit.
    pub(crate) profiles: Vec<LayerProfile>,
    /// Are the activations on disk? That has to stay, too.
    pub(crate) spilled: bool,
    /// The router's load in the unfinished stage.
    pub(crate) router: Option<ExactLoad>,
}

/// A router's load, bit for bit: JSON may lose the last bit of a fraction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ExactLoad {
    tokens: Vec<u64>,
    weight_bits: Vec<u64>,
}

impl From<&RouterLoad> for ExactLoad {
    fn from(load: &RouterLoad) -> Self {
        Self {
            tokens: load.tokens.clone(),
            weight_bits: load.weight.iter().map(|weight| weight.to_bits()).collect(),
        }
    }
}

impl From<&ExactLoad> for RouterLoad {
    fn from(load: &ExactLoad) -> Self {
        Self {
            tokens: load.tokens.clone(),
            weight: load.weight_bits.iter().map(|bits| f64::from_bits(*bits)).collect(),
        }
    }
}

/// Where a run goes on, and what is known of its past.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(crate) position: Position,
    pub(crate) snapshot: Option<u64>,
    pub(crate) profiles: Vec<LayerProfile>,
    /// The last commit's note.
    pub(crate) last: Note,
}

impl Past {
    /// Reads the notes of an unfinished run.
    pub(crate) fn new(resumed: Resumed, path: &Path) -> Result<Self> {
        let mut past = Self { position: resumed.position, snapshot: resumed.snapshot, ..Self::default() };
        for (_, note) in resumed.notes {
            let unusable =
                |e: serde_json::Error| SliError::Config { path: path.into(), message: e.to_string() };
            past.last = serde_json::from_value(note).map_err(unusable)?;
            past.profiles.append(&mut past.last.profiles);
        }
        Ok(past)
    }
}

/// Syncs outputs and activations and then says so in the journal, in this order, on the writer's thread.
#[derive(Debug)]
pub(crate) struct Committer {
    journal: Arc<Mutex<RunJournal>>,
    interval: Duration,
    last: Instant,
    /// What the last commit that was waited for took.
    cost: Duration,
}

/// Chunks on disk are committed this often: each sync makes the disk wait for what it has cached.
const DURABLE_INTERVAL: Duration = Duration::from_millis(500);
/// The next commit that is waited for comes so many times what the last one took later, unless every stage is to be
/// committed: they take about one part in so many of the time.
const COST_OF_TIME: u32 = 20;

impl Committer {
    /// Commits at most every `interval` when activations are in memory, since each commit writes all of them.
    pub(crate) fn new(journal: RunJournal, interval: Duration, store: &dyn ActivationStore) -> Self {
        let interval = if store.is_durable() { interval.min(DURABLE_INTERVAL) } else { interval };
        Self { journal: Arc::new(Mutex::new(journal)), interval, last: Instant::now(), cost: Duration::ZERO }
    }

    /// Is it time for another commit?
    pub(crate) fn is_due(&self) -> bool {
        self.last.elapsed() >= self.interval
    }

    /// The same for one that is waited for, when the run will be done after `to_come`: near the end, what could be lost
    /// without it is little more than what may be lost anyway.
    pub(crate) fn is_worth_waiting_for(&self, to_come: Duration) -> bool {
        let interval =
            if self.interval.is_zero() { self.interval } else { self.interval.max(self.cost * COST_OF_TIME) };
        self.last.elapsed() >= interval && to_come >= interval / 2
    }

    /// Waits until what was committed is durable.
    pub(crate) fn wait(&mut self, writer: &Writer) -> Result<()> {
        let start = Instant::now();
        writer.flush()?;
        self.cost = start.elapsed();
        Ok(())
    }

    /// Commits behind the jobs that wait. `sync_outputs` makes durable what the outputs have written.
    pub(crate) fn commit(
        &mut self,
        writer: &Writer,
        store: &Arc<dyn ActivationStore>,
        sync_outputs: impl FnOnce() -> Result<()> + Send + 'static,
        position: Position,
        note: &Note,
    ) -> Result<()> {
        self.last = Instant::now();
        let note = serde_json::to_value(note).map_err(|e| SliError::Usage(format!("commit: {e}")))?;
        let (journal, store) = (self.journal.clone(), store.clone());
        writer.submit(move || {
            sync_outputs()?;
            store.sync()?;
            journal.lock().unwrap_or_else(PoisonError::into_inner).commit(position, note)
        })
    }

    /// Ends the run: the journal and the activations are removed.
    pub(crate) fn finish(self) -> Result<()> {
        match Arc::try_unwrap(self.journal) {
            Ok(journal) => journal.into_inner().unwrap_or_else(PoisonError::into_inner).finish(),
            Err(_) => unreachable!("the writer has no jobs left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sli_cache::{Fingerprint, ResidentStore};

    use super::*;

    fn committer(directory: &Path) -> Committer {
        let (journal, _) = RunJournal::open_or_create(directory, &Fingerprint::new()).unwrap();
        let store = ResidentStore::create(directory.join("store")).unwrap();
        Committer::new(journal, Duration::from_secs(30), &store)
    }

    #[test]
    fn what_a_commit_takes_is_measured_while_it_is_waited_for() {
        let (directory, writer) = (tempfile::tempdir().unwrap(), Writer::new(1).unwrap());
        let mut committer = committer(directory.path());
        let job = || {
            std::thread::sleep(Duration::from_millis(40));
            Ok(())
        };
        writer.submit(job).unwrap();
        committer.wait(&writer).unwrap();
        assert!(committer.cost >= Duration::from_millis(20), "{:?}", committer.cost);
    }

    #[test]
    fn no_commit_is_waited_for_near_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut committer = committer(directory.path());
        let worth = |committer: &Committer| {
            [14, 15].map(|seconds| committer.is_worth_waiting_for(Duration::from_secs(seconds)))
        };
        assert_eq!(worth(&committer), [false, false], "nothing is due yet");
        committer.last = Instant::now().checked_sub(Duration::from_secs(31)).unwrap();
        assert_eq!(worth(&committer), [false, true]);
        committer.cost = Duration::from_secs(2);
        assert_eq!(worth(&committer), [false, false], "31 s of work are not worth 2 s of saving it");
        committer.interval = Duration::ZERO;
        assert!(committer.is_worth_waiting_for(Duration::ZERO), "every stage, where that is asked for");
    }
}
