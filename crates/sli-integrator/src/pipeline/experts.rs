//! The experts of a layer: each read once, worked on by a thread, added in order.
//!
//! A thread takes the next expert as soon as it has done with one, so none waits for another whose expert more tokens
//! chose. Sums must not depend on who was faster: an output waits until all before it are added.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rayon::Scope;
use sli_core::{Group, Place, Result, SliError};
use sli_layers::{Block, Carried, ExpertOutput, LayerTensors, PendingExperts, SliBackend};
use sli_weights::{GroupTensors, ReadRequest, WeightStream};

use crate::chunks::Chunk;
use crate::pipeline::{Pipeline, StageRun};
use crate::progress::Observer;

/// A chunk that waits for its experts, with what is carried beside it.
pub(super) type Waiting<B> = (Chunk, Box<PendingExperts<B>>, Carried<B>);

impl<B: SliBackend> Pipeline<'_, B> {
    /// Reads each expert that any waiting chunk chose, once, and applies it to all of them, a few at a time.
    pub(super) fn run_experts(
        &mut self,
        run: &mut StageRun,
        block: &Block<B>,
        place: Place,
        layer: usize,
        waiting: &[Waiting<B>],
    ) -> Result<()> {
        let waiting: Vec<_> = waiting.iter().map(|(_, pending, _)| &**pending).collect();
        let by_expert = waiting.iter().flat_map(|pending| &pending.by_expert);
        let chosen: BTreeSet<u32> = by_expert.map(|rows| rows.expert).collect();
        let chosen: Vec<_> =
            chosen.into_iter().map(|e| (e, ReadRequest::Group(place, Group::Expert(e)))).collect();
        self.stream.enqueue_urgent(chosen.iter().map(|(_, request)| request.clone()));
        let together = self.plan.experts_together;
        let experts = Experts {
            chosen,
            waiting,
            block,
            layer,
            stream: &self.stream,
            observer: &*self.options.observer,
            together,
            state: Mutex::default(),
        };
        let read = experts.run()?;
        run.expert_bytes += read.bytes;
        // Each of the threads waited for its share of it.
        run.wait += read.wait / together as u32;
        self.count_read(run, read.bytes, read.time);
        Ok(())
    }
}

/// What the threads share.
struct Experts<'a, B: SliBackend> {
    /// In the order in which they are read and added.
    chosen: Vec<(u32, ReadRequest)>,
    waiting: Vec<&'a PendingExperts<B>>,
    block: &'a Block<B>,
    layer: usize,
    stream: &'a WeightStream,
    observer: &'a dyn Observer,
    /// Threads that work at once.
    together: usize,
    state: Mutex<State<B>>,
}

struct State<B: SliBackend> {
    /// Threads at work.
    workers: usize,
    /// How many experts were begun, and how many are added.
    begun: usize,
    added: usize,
    /// Does a thread add outputs just now?
    adding: bool,
    /// What was computed before its turn to be added, by expert, for each waiting chunk.
    early: BTreeMap<usize, Outputs<B>>,
    read: Read,
    error: Option<SliError>,
}

type Outputs<B> = Vec<Option<ExpertOutput<B>>>;

impl<B: SliBackend> Default for State<B> {
    fn default() -> Self {
        let (read, early) = (Read::default(), BTreeMap::new());
        Self { workers: 0, begun: 0, added: 0, adding: false, early, read, error: None }
    }
}

impl<B: SliBackend> State<B> {
    /// The outputs that are to be added next, if they are there.
    fn take_turn(&mut self) -> Option<Outputs<B>> {
        self.early.remove(&self.added)
    }
}

/// What reading them took, of all threads together.
#[derive(Clone, Copy, Default)]
struct Read {
    bytes: u64,
    time: Duration,
    wait: Duration,
}

impl Read {
    fn add(&mut self, tensors: &GroupTensors, wait: Duration) {
        self.bytes += tensors.bytes_read();
        self.time += tensors.read_time();
        self.wait += wait;
    }
}

impl<B: SliBackend> Experts<'_, B> {
    /// Applies them all.
    fn run(self) -> Result<Read> {
        rayon::scope(|scope| self.start_workers(scope));
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.error.map_or(Ok(state.read), Err)
    }

    /// Lets as many threads work as may and as have something to do.
    fn start_workers<'s>(&'s self, scope: &Scope<'s>) {
        let mut state = self.state();
        while state.workers < self.together && self.may_begin(&state) {
            state.workers += 1;
            scope.spawn(|scope| {
                while let Some(index) = self.begin() {
                    let outputs = self.outputs(index);
                    self.finish(index, outputs);
                    self.start_workers(scope);
                }
            });
        }
    }

    /// Is there an expert to begin, not so far ahead of one that is slow that more than one output would wait for it?
    fn may_begin(&self, state: &State<B>) -> bool {
        let ahead = state.begun - state.added;
        state.error.is_none() && state.begun < self.chosen.len() && ahead <= self.together
    }

    /// The next expert for a thread; `None` when it is to stop.
    fn begin(&self) -> Option<usize> {
        let mut state = self.state();
        if !self.may_begin(&state) {
            state.workers -= 1;
            return None;
        }
        state.begun += 1;
        Some(state.begun - 1)
    }

    /// Waits for an expert and runs the rows that chose it through it.
    fn outputs(&self, index: usize) -> Result<Outputs<B>> {
        let (expert, request) = &self.chosen[index];
        let start = Instant::now();
        let tensors = self.stream.take(request.clone())?;
        self.state().read.add(&tensors, start.elapsed());
        self.observer.bytes_read(tensors.bytes_read());
        let network = self.block.expert(*expert, &LayerTensors::new(self.layer, tensors))?;
        Ok(self.waiting.iter().map(|pending| pending.output(*expert, &network)).collect())
    }

    /// Adds what has come to its turn, unless another thread is about it. Nothing is locked meanwhile, since a thread
    /// that adds may take up other work of the pool.
    fn finish(&self, index: usize, outputs: Result<Outputs<B>>) {
        let mut state = self.state();
        match outputs {
            Ok(outputs) => _ = state.early.insert(index, outputs),
            Err(error) => _ = state.error.get_or_insert(error),
        }
        if std::mem::replace(&mut state.adding, true) {
            return;
        }
        while let Some(outputs) = state.take_turn() {
            drop(state);
            for (pending, output) in self.waiting.iter().zip(outputs) {
                output.into_iter().for_each(|output| pending.add(output));
            }
            state = self.state();
            state.added += 1;
        }
        state.adding = false;
    }

    fn state(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
