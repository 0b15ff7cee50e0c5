//! Weights that are read while the layers before them compute.
//!
//! A few threads serve two queues. The *ahead* queue holds what will be needed, in order; it is read as far as its
//! budget allows. The *urgent* queue holds what is needed next and could not be foreseen (the experts that a router
//! chose); it has a budget of its own, and reading ahead rests while an urgent request is read. Whatever somebody
//! waits for in [`WeightStream::take`] is read whether or not the budgets allow it: a caller can hold as many tensors
//! as it likes and never waits for itself.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sli_core::{Result, SliError};

use crate::direct::{DirectFiles, ReadMode};
use crate::layout::Layout;
use crate::load::{GroupTensors, ReadRequest};
use crate::memory::{BufferPool, Lease, Memory};
use crate::read_plan::BlockReader;
use crate::schedule::{Lane, Schedule};

/// Who reads. An expert is one short read: with two threads, the disk has the next one before the first is handed over.
const THREADS: [(Lane, &str); 3] =
    [(Lane::Ahead, "weights-ahead"), (Lane::Urgent, "weights-urgent"), (Lane::Urgent, "weights-urgent")];

/// What a stream may use.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// Bytes of memory for what is read ahead, from when reading starts until the last tensor is dropped. With less
    /// than two groups' worth, a group is only read when it is waited for.
    pub ahead_bytes: u64,
    /// Bytes of memory for urgent requests.
    pub urgent_bytes: u64,
    /// How to read; direct reads become buffered ones where the file system refuses them.
    pub mode: ReadMode,
}

/// What a stream has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Time that reading took, of all threads together.
    pub read_time: Duration,
    /// Time that callers spent waiting in [`WeightStream::take`].
    pub wait_time: Duration,
    /// Bytes of memory held now: being read, waiting to be taken, or with the caller.
    pub held_bytes: u64,
    /// The most that was held at any time.
    pub peak_bytes: u64,
}

/// Reads requests in the background and hands them out. Dropping it ends the reading; tensors that were taken stay.
pub struct WeightStream {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    layout: Arc<Layout>,
    files: DirectFiles,
    /// One for each lane: what is urgent would cut up the memory for what is read ahead.
    ahead: Arc<BufferPool>,
    urgent: Arc<BufferPool>,
    state: Mutex<State>,
    /// Something in `state` has changed that a thread may wait for.
    changed: Condvar,
}

struct State {
    schedule: Schedule<ReadRequest, Result<GroupTensors>>,
    stats: StreamStats,
    /// No more is read, because the stream is dropped or a thread has died.
    ended: bool,
}

impl WeightStream {
    /// Starts the threads; nothing is read before something is asked for.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn new(layout: Arc<Layout>, options: StreamOptions) -> Result<Self> {
        let StreamOptions { ahead_bytes, urgent_bytes, mode } = options;
        let schedule = Schedule::new(ahead_bytes, urgent_bytes);
        let shared = Arc::new(Shared {
            files: DirectFiles::new(layout.checkpoint().clone(), mode),
            ahead: BufferPool::new(ahead_bytes),
            urgent: BufferPool::new(urgent_bytes),
            layout,
            state: Mutex::new(State { schedule, stats: StreamStats::default(), ended: false }),
            changed: Condvar::new(),
        });
        let mut stream = Self { shared, threads: Vec::new() };
        for (lane, name) in THREADS {
            let shared = stream.shared.clone();
            let thread = thread::Builder::new().name(name.into()).spawn(move || serve(&shared, lane));
            let thread =
                thread.map_err(|error| stream.shared.failed("cannot start a thread to read", error))?;
            stream.threads.push(thread);
        }
        Ok(stream)
    }

    /// Asks for groups in the order in which they will be taken; they are read ahead of that.
    pub fn enqueue<R: Into<ReadRequest>>(&self, requests: impl IntoIterator<Item = R>) {
        self.enqueue_in(Lane::Ahead, requests);
    }

    /// Asks for groups that are needed before what was enqueued.
    pub fn enqueue_urgent<R: Into<ReadRequest>>(&self, requests: impl IntoIterator<Item = R>) {
        self.enqueue_in(Lane::Urgent, requests);
    }

    fn enqueue_in<R: Into<ReadRequest>>(&self, lane: Lane, requests: impl IntoIterator<Item = R>) {
        let requests: Vec<_> = requests.into_iter().map(Into::into).collect();
        let bytes: Vec<_> = requests.iter().map(|request| self.shared.bytes(request)).collect();
        let mut state = self.shared.lock();
        for (request, bytes) in requests.into_iter().zip(bytes) {
            state.schedule.enqueue(lane, request, bytes);
        }
        self.shared.changed.notify_all();
    }

    /// Waits until a request is read and hands it over; one that was not enqueued is read at once.
    ///
    /// # Errors
    /// When the layout has no such thing or the files cannot be read.
    pub fn take(&self, request: impl Into<ReadRequest>) -> Result<GroupTensors> {
        let request = request.into();
        let bytes = self.shared.bytes(&request);
        let start = Instant::now();
        let mut state = self.shared.lock();
        loop {
            if let Some(result) = state.schedule.take(&request) {
                state.stats.wait_time += start.elapsed();
                return result;
            }
            if state.ended {
                return Err(self
                    .shared
                    .failed("cannot read", std::io::Error::other("the reading threads ended")));
            }
            state.schedule.want(&request, bytes);
            self.shared.changed.notify_all();
            state = self.shared.wait(state);
        }
    }

    /// How files are read.
    pub fn mode(&self) -> ReadMode {
        self.shared.files.mode()
    }

    /// What was done so far.
    pub fn stats(&self) -> StreamStats {
        let state = self.shared.lock();
        StreamStats { held_bytes: state.schedule.held(), peak_bytes: state.schedule.peak(), ..state.stats }
    }
}

impl Drop for WeightStream {
    fn drop(&mut self) {
        self.shared.end();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on its own; there is nobody left to tell.
            let _ = thread.join();
        }
        // Tensors give their memory back to `shared`, so they may neither be kept by it nor dropped under its lock.
        let untaken = self.shared.lock().schedule.take_all();
        drop(untaken);
    }
}

/// A thread's work: one request of its lane after another.
fn serve(shared: &Arc<Shared>, lane: Lane) {
    /// Lets nobody wait for a thread that is no more.
    struct EndWhenDropped<'a>(&'a Shared);
    impl Drop for EndWhenDropped<'_> {
        fn drop(&mut self) {
            self.0.end();
        }
    }

    let _end = EndWhenDropped(shared);
    while let Some((request, bytes)) = shared.next(lane) {
        let pool = match lane {
            Lane::Ahead => &shared.ahead,
            Lane::Urgent => &shared.urgent,
        };
        let memory = Memory::leased(pool.clone(), shared.lease(lane, bytes));
        let result = shared.layout.load(&request, memory, &mut LaneReader { shared, lane });
        let mut state = shared.lock();
        if let Ok(tensors) = &result {
            state.stats.bytes_read += tensors.bytes_read();
            state.stats.read_time += tensors.read_time();
        }
        state.schedule.finish(lane, request, result);
        shared.changed.notify_all();
    }
}

impl Shared {
    /// Waits for the next request of a lane. `None` when the stream has ended.
    fn next(&self, lane: Lane) -> Option<(ReadRequest, u64)> {
        let mut state = self.lock();
        while !state.ended {
            if let Some(next) = state.schedule.start(lane) {
                return Some(next);
            }
            state = self.wait(state);
        }
        None
    }

    /// The memory of a request that was started, which goes back to the budget of its lane.
    fn lease(self: &Arc<Self>, lane: Lane, bytes: u64) -> Lease {
        let shared = self.clone();
        let give_back = move |bytes| {
            shared.lock().schedule.give_back(lane, bytes);
            shared.changed.notify_all();
        };
        Lease::new(bytes, Arc::new(give_back))
    }

    /// The memory that a request takes. One that makes no sense takes none, and reading it says why.
    fn bytes(&self, request: &ReadRequest) -> u64 {
        self.layout.memory_bytes(request).unwrap_or(0)
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> SliError {
        SliError::io(action, self.layout.checkpoint().directory())(source)
    }

    // A panic of another thread leaves the state as it was between two changes, so it can still be used.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane's way to the files.
struct LaneReader<'a> {
    shared: &'a Shared,
    lane: Lane,
}

impl BlockReader for LaneReader<'_> {
    fn read(&mut self, file: usize, offset: u64, room: &mut [u8], needed: usize) -> Result<()> {
        self.shared.files.read(file, offset, room, needed)
    }

    /// Reading ahead rests while something urgent is read; all reading stops when the stream is dropped.
    fn wait_for_turn(&mut self) -> Result<()> {
        let mut state = self.shared.lock();
        while self.lane == Lane::Ahead && state.schedule.reads_urgently() && !state.ended {
            state = self.shared.wait(state);
        }
        if state.ended { Err(SliError::Interrupted { done: "a part of a layer".into() }) } else { Ok(()) }
    }
}
