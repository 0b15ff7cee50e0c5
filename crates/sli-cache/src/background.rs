//! Reading ahead and writing behind, in threads of their own.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use sli_core::{ActivationStore, ChunkState, Generation, Result, SliError};

use crate::record::Key;

/// Lets another store's reads and writes go on while layers compute. A put is queued for a writer thread; a get makes
/// a reader thread fetch the next chunk. What comes back is always what was put last, from the queue if need be.
///
/// An error of the writer thread is returned by the next call and by all later ones, so that no
/// [`sync`](ActivationStore::sync) succeeds after a lost chunk. Dropping the store writes what is queued and joins the
/// threads.
pub struct BackgroundStore {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    inner: Arc<dyn ActivationStore>,
    queue_bytes: u64,
    state: Mutex<State>,
    /// Told of every change of the state.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What is to be written, oldest first. The first one stays here while it is being written.
    queue: VecDeque<Queued>,
    queued_bytes: u64,
    writing: bool,
    ahead: Ahead,
    failed: Option<SliError>,
    closed: bool,
}

struct Queued {
    key: Key,
    chunk: ChunkState,
}

/// The one chunk that is read ahead.
#[derive(Default)]
enum Ahead {
    #[default]
    Nothing,
    Wanted(Key),
    Reading(Key),
    Read(Key, ChunkState),
}

impl BackgroundStore {
    /// Wraps a store. Chunks of `queue_bytes` together may wait for the writer; a larger one waits alone. One more
    /// chunk is held by the reader.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(inner: Arc<dyn ActivationStore>, queue_bytes: u64) -> Result<Self> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { inner, queue_bytes, state, changed });
        let mut store = Self { shared, threads: Vec::new() };
        store.start("write-behind", Shared::write_behind)?;
        store.start("read-ahead", Shared::read_ahead)?;
        Ok(store)
    }

    fn start(&mut self, name: &'static str, work: fn(&Shared)) -> Result<()> {
        let shared = self.shared.clone();
        let started = thread::Builder::new().name(name.into()).spawn(move || {
            let _alarm = Alarm(&shared);
            work(&shared);
        });
        self.threads.push(started.map_err(SliError::io("cannot start thread", name))?);
        Ok(())
    }

    /// Has the reader thread fetch a chunk, as each get does for the chunk after it. Worth a call before the first
    /// get of a stage.
    pub fn prefetch(&self, generation: Generation, chunk: usize) {
        self.shared.lock().want(Key { generation, chunk });
        self.shared.changed.notify_all();
    }
}

impl ActivationStore for BackgroundStore {
    fn put(&self, generation: Generation, chunk: usize, state: ChunkState) -> Result<()> {
        let queued = Queued { key: Key { generation, chunk }, chunk: state };
        let bytes = queued.chunk.bytes();
        let full = |state: &State| {
            state.queued_bytes > 0 && state.queued_bytes.saturating_add(bytes) > self.shared.queue_bytes
        };
        let mut state = self.shared.wait_while(full)?;
        state.ahead.forget(|key| key == queued.key);
        state.queued_bytes += bytes;
        state.queue.push_back(queued);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn get(&self, generation: Generation, chunk: usize) -> Result<ChunkState> {
        let key = Key { generation, chunk };
        let being_read = |state: &State| matches!(state.ahead, Ahead::Reading(other) if other == key);
        let mut state = self.shared.wait_while(being_read)?;
        let found = state.queued(key).or_else(|| state.ahead.take(key));
        state.want(Key { generation, chunk: chunk.saturating_add(1) });
        drop(state);
        self.shared.changed.notify_all();
        found.map_or_else(|| self.shared.inner.get(generation, chunk), Ok)
    }

    fn release(&self, generation: Generation, chunk: usize) {
        let key = Key { generation, chunk };
        if self.shared.forget(|other| other == key).is_ok() {
            self.shared.inner.release(generation, chunk);
        }
    }

    fn drop_generation(&self, generation: Generation) -> Result<()> {
        self.shared.forget(|key| key.generation == generation)?;
        self.shared.inner.drop_generation(generation)
    }

    fn sync(&self) -> Result<()> {
        drop(self.shared.wait_while(|state| !state.queue.is_empty())?);
        self.shared.inner.sync()
    }

    fn is_durable(&self) -> bool {
        self.shared.inner.is_durable()
    }
}

impl Drop for BackgroundStore {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that reads or writes activations panicked");
            }
        }
        if let Some(error) = &self.shared.lock().failed {
            tracing::warn!("not all activations were written: {error}");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `condition` is false or the writer has failed, which is the error.
    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let state = self.changed.wait_while(self.lock(), |state| state.failed.is_none() && condition(state));
        let state = state.unwrap_or_else(PoisonError::into_inner);
        match &state.failed {
            Some(error) => Err(again(error)),
            None => Ok(state),
        }
    }

    /// Takes chunks out of the queue, and out of what is read ahead. One that is being written is waited for, so that
    /// it does not come back.
    fn forget(&self, unwanted: impl Fn(Key) -> bool) -> Result<()> {
        let being_written =
            |state: &State| state.writing && state.queue.front().is_some_and(|queued| unwanted(queued.key));
        let mut state = self.wait_while(being_written)?;
        state.ahead.forget(&unwanted);
        state.queue.retain(|queued| !unwanted(queued.key));
        state.queued_bytes = state.queue.iter().map(|queued| queued.chunk.bytes()).sum();
        self.changed.notify_all();
        Ok(())
    }

    fn write_behind(&self) {
        loop {
            let waiting =
                self.changed.wait_while(self.lock(), |state| state.queue.is_empty() && !state.closed);
            let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
            let Some(Queued { key, chunk }) = state.queue.front() else { return };
            let (Key { generation, chunk }, values) = (*key, chunk.clone());
            state.writing = true;
            drop(state);

            let written = self.inner.put(generation, chunk, values);

            let mut state = self.lock();
            state.writing = false;
            match written {
                Ok(()) => {
                    let done = state.queue.pop_front();
                    state.queued_bytes -= done.map_or(0, |queued| queued.chunk.bytes());
                }
                Err(error) => state.fail(error),
            }
            self.changed.notify_all();
        }
    }

    fn read_ahead(&self) {
        loop {
            let idle = |state: &mut State| !matches!(state.ahead, Ahead::Wanted(_)) && !state.closed;
            let waiting = self.changed.wait_while(self.lock(), idle);
            let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
            let (Ahead::Wanted(key), false) = (&state.ahead, state.closed) else { return };
            let key = *key;
            state.ahead = Ahead::Reading(key);
            drop(state);

            let read = self.inner.get(key.generation, key.chunk);

            let mut state = self.lock();
            // Replaced or dropped meanwhile: then what was read is worth nothing.
            if matches!(state.ahead, Ahead::Reading(other) if other == key) {
                // An error may only mean that there is no next chunk. A get will try again and tell.
                state.ahead = read.map_or(Ahead::Nothing, |chunk| Ahead::Read(key, chunk));
            }
            self.changed.notify_all();
        }
    }
}

impl State {
    /// The newest chunk under this key that is not written yet.
    fn queued(&self, key: Key) -> Option<ChunkState> {
        self.queue.iter().rev().find(|queued| queued.key == key).map(|queued| queued.chunk.clone())
    }

    /// Asks the reader for a chunk, unless it is at work or the chunk is in memory.
    fn want(&mut self, key: Key) {
        let in_memory = self.queue.iter().any(|queued| queued.key == key)
            || matches!(&self.ahead, Ahead::Read(other, _) if *other == key);
        if !in_memory && !matches!(self.ahead, Ahead::Reading(_)) {
            self.ahead = Ahead::Wanted(key);
        }
    }

    fn fail(&mut self, error: SliError) {
        self.failed.get_or_insert(error);
        self.queue.clear();
        self.queued_bytes = 0;
        self.writing = false;
        self.ahead = Ahead::Nothing;
    }
}

impl Ahead {
    fn forget(&mut self, unwanted: impl Fn(Key) -> bool) {
        match self {
            Self::Wanted(key) | Self::Reading(key) | Self::Read(key, _) if unwanted(*key) => {
                *self = Self::Nothing
            }
            _ => {}
        }
    }

    fn take(&mut self, key: Key) -> Option<ChunkState> {
        match std::mem::take(self) {
            Self::Read(other, chunk) if other == key => Some(chunk),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// Wakes those who wait when a thread dies of a panic.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let source = io::Error::other("a background thread panicked");
            self.0.lock().fail(SliError::Io { action: "cannot use", path: "activations".into(), source });
            self.0.changed.notify_all();
        }
    }
}

/// The same error once more; errors of the operating system cannot be cloned.
fn again(error: &SliError) -> SliError {
    match error {
        SliError::Io { action, path, source } => {
            let source = match source.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(source.kind(), source.to_string()),
            };
            SliError::Io { action, path: path.clone(), source }
        }
        other => {
            let source = io::Error::other(other.to_string());
            SliError::Io { action: "cannot write", path: "activations".into(), source }
        }
    }
}
