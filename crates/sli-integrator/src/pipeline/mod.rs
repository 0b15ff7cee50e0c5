//! A run: every sample through the embedding, then through each layer, then through the head.
//!
//! The compute thread takes weights from the stream and activations from the store, and hands outputs to the writer.
//! Stage after stage, chunk after chunk is committed, so that a run that dies goes on where it was.

mod commit;
mod embedding;
mod experts;
mod head;
mod layer;
mod stage;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sli_core::{
    ActivationStore, Carry, ChunkState, Generation, Group, Place, Position, Result, Rows, SliError,
    TensorKey, TensorRole,
};
use sli_kernels::ChannelMoments;
use sli_layers::{EncoderOutput, LayerTensors, RopeCache, SliBackend, UniversalLayerFactory};
use sli_moe::RouterLoad;
use sli_weights::{GroupTensors, ReadRequest, WeightStream};

use crate::chunks::{Chunk, Chunks};
use crate::dataset::{Samples, TokenSequences};
use crate::model::OpenModel;
use crate::options::{HiddenDtype, RunOptions};
use crate::output::{Distribution, ExpertReads, HiddenOutput, LayerProfile, RouterProfile, write_stats};
use crate::plan::MemoryPlan;
use crate::progress::StageInfo;

pub(crate) use commit::{Committer, ExactLoad, Note, Past};
pub(crate) use stage::{Stage, stages};
pub(crate) use writer::Writer;

/// What a run works with and on.
pub(crate) struct Pipeline<'a, B: SliBackend> {
    pub(crate) model: &'a OpenModel,
    pub(crate) samples: &'a Samples,
    pub(crate) chunks: &'a Chunks,
    pub(crate) options: &'a RunOptions,
    pub(crate) plan: &'a MemoryPlan,
    pub(crate) output: &'a Path,
    pub(crate) hidden_dtype: HiddenDtype,
    /// Stacks that run: the decoder of an encoder-decoder only when the records give it tokens.
    pub(crate) stacks: usize,
    pub(crate) factory: UniversalLayerFactory<B>,
    pub(crate) stream: WeightStream,
    pub(crate) store: Arc<dyn ActivationStore>,
    pub(crate) writer: Writer,
    pub(crate) committer: Committer,
    pub(crate) rope: RopeCache,
    pub(crate) totals: Totals,
}

/// What adds up over a run.
#[derive(Debug)]
pub(crate) struct Totals {
    started: Instant,
    /// The stage that this process began with.
    first_stage: usize,
    seconds_before: f64,
    bytes_read: u64,
    /// Profiles of the stages that ended.
    pub(crate) profiles: Vec<LayerProfile>,
    /// How many of them are committed.
    committed: usize,
}

impl Totals {
    /// Goes on from what earlier processes did.
    pub(crate) fn new(past: &Past, started: Instant) -> Self {
        Self {
            started,
            first_stage: past.position.stage,
            seconds_before: past.last.seconds,
            bytes_read: past.last.bytes_read,
            committed: past.profiles.len(),
            profiles: past.profiles.clone(),
        }
    }

    /// Seconds of work of all processes.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// Weight bytes that all processes read.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}

/// The stage at work.
struct StageRun {
    stage: Stage,
    index: usize,
    name: String,
    hidden: Option<Arc<HiddenOutput>>,
    moments: Option<ChannelMoments>,
    router: Option<RouterLoad>,
    bytes: u64,
    expert_bytes: u64,
    read: Duration,
    wait: Duration,
    started: Instant,
}

impl<B: SliBackend> Pipeline<'_, B> {
    /// Runs all stages from where the past left off.
    pub(crate) fn run(&mut self, past: &Past) -> Result<()> {
        let stages = stages(&self.model.spec, self.stacks, self.plan.in_parts);
        self.stream.enqueue(self.weights_ahead(&stages[past.position.stage.min(stages.len())..]));
        for (index, stage) in stages.iter().enumerate().skip(past.position.stage) {
            let done = if index == past.position.stage { past.position.chunks } else { 0 };
            let mut run = self.begin(*stage, index, stages.len(), done)?;
            if done > 0 {
                run.router = past.last.router.as_ref().map(RouterLoad::from);
            }
            match *stage {
                Stage::Embedding { stack } => self.run_embedding(&mut run, stack, done)?,
                Stage::Layer { stack, layer, part } => self.run_layer(&mut run, stack, layer, part, done)?,
                Stage::Final { stack } => self.run_final(&mut run, stack, done)?,
            }
            self.end(run, stages.len() - index - 1)?;
        }
        Ok(())
    }

    /// The weights of these stages, in the order in which they will be wanted. Experts are wanted only once they are
    /// chosen, and the small tensors of embeddings and head are read when they are needed. The vocabulary matrix comes
    /// last, tile by tile.
    fn weights_ahead(&self, stages: &[Stage]) -> Vec<ReadRequest> {
        let requests = stages.iter().filter_map(|stage| self.dense_request(*stage));
        requests.chain(self.head_tiles().map(head::tile_request)).collect()
    }

    /// The weights of a stage that all its tokens go through. A final norm may have none.
    fn dense_request(&self, stage: Stage) -> Option<ReadRequest> {
        let (layout, place) = (&self.model.layout, stage.place());
        let has_weights = stage.groups().iter().any(|group| !layout.slots(place, *group).is_empty());
        has_weights.then_some(ReadRequest::Groups(place, stage.groups()))
    }

    fn begin(&mut self, stage: Stage, index: usize, total: usize, done: usize) -> Result<StageRun> {
        let spec = &self.model.spec;
        let (name, sequences) = (stage.name(spec), self.samples.sequences(stage.stack()));
        let samples_done = self.chunks.samples_before(done);
        let (stack, keep) = (&spec.stacks[stage.stack()], &self.options.hidden_states);
        let kept = match stage {
            Stage::Embedding { .. } => keep.keeps_embedding(),
            Stage::Layer { layer, .. } => stage.ends_layer() && keep.keeps_layer(layer, stack.layers.len()),
            Stage::Final { .. } => keep.keeps_final(),
        };
        let width = match stage {
            Stage::Final { .. } => stack.final_width(),
            _ => stack.hidden_size,
        };
        let folder = self.output.join("hidden").join(&name);
        let open = |()| {
            HiddenOutput::new(folder, width, self.hidden_dtype, self.options.pool, sequences, samples_done)
        };
        let hidden = kept.then_some(()).map(open).transpose()?.map(Arc::new);
        let with_stats = self.options.stats && matches!(stage, Stage::Layer { .. }) && stage.ends_layer();
        let moments = with_stats.then(|| self.moments_so_far(stage, index, done)).transpose()?;

        self.options.observer.stage_started(&StageInfo {
            index,
            total,
            name: stage.title(spec),
            tokens: sequences.num_tokens(),
            tokens_done: sequences.rows(0..samples_done).end,
        });
        Ok(StageRun {
            stage,
            index,
            name,
            hidden,
            moments,
            router: None,
            bytes: 0,
            expert_bytes: 0,
            read: Duration::ZERO,
            wait: Duration::ZERO,
            started: Instant::now(),
        })
    }

    /// The moments of chunks that an earlier process finished: their outputs are the stage's input to the next.
    fn moments_so_far(&self, stage: Stage, index: usize, done: usize) -> Result<ChannelMoments> {
        let mut moments = ChannelMoments::new(self.model.spec.stacks[stage.stack()].hidden_size);
        if let Some(generation) = stage.written(index, self.stacks) {
            for chunk in 0..done {
                moments.add_rows(self.store.get(generation, chunk)?.hidden.values());
            }
        }
        Ok(moments)
    }

    /// Takes the weights of a stage that all its tokens go through.
    fn take_dense(&mut self, run: &mut StageRun, layer: usize) -> Result<LayerTensors> {
        let request = self.dense_request(run.stage);
        let tensors = request.map(|request| self.take(run, &request)).transpose()?;
        Ok(LayerTensors::new(layer, tensors.unwrap_or_default()))
    }

    /// Takes weights from the stream, keeping count.
    fn take(&mut self, run: &mut StageRun, request: &ReadRequest) -> Result<GroupTensors> {
        let start = Instant::now();
        let tensors = self.stream.take(request.clone())?;
        run.wait += start.elapsed();
        self.count_read(run, tensors.bytes_read(), tensors.read_time());
        self.options.observer.bytes_read(tensors.bytes_read());
        Ok(tensors)
    }

    fn count_read(&mut self, run: &mut StageRun, bytes: u64, time: Duration) {
        run.bytes += bytes;
        run.read += time;
        self.totals.bytes_read += bytes;
    }

    /// Reads the tensors of a place that are in memory as a whole: all but the tables that are read by row.
    fn small_tensors(&self, place: Place, by_row: &[TensorRole]) -> Result<LayerTensors> {
        let slots = self.model.layout.slots(place, Group::Dense).iter();
        let keys: Vec<TensorKey> = slots
            .map(|slot| slot.need.key)
            .filter(|key| !by_row.contains(&key.role) || key.is_bias())
            .collect();
        let load = |key| Ok((key, self.model.layout.load_tensor(place, key)?));
        Ok(LayerTensors::new(0, keys.into_iter().map(load).collect::<Result<Vec<_>>>()?))
    }

    fn chunk(&self, index: usize, stack: usize) -> Chunk {
        self.chunks.chunk(index, self.samples.sequences(stack))
    }

    /// The positions of a chunk's tokens, where the records give them. They are given for the input only.
    fn positions(&self, chunk: &Chunk, stack: usize) -> Option<&[u32]> {
        let positions = self.samples.positions.as_deref().filter(|_| stack == 0)?;
        Some(&positions[chunk.tokens.clone()])
    }

    /// The state of a chunk, as the stage before left it.
    fn state(&self, run: &StageRun, chunk: usize) -> Result<ChunkState> {
        self.store.get(Generation::written_by(run.index - 1), chunk)
    }

    /// The same for a chunk of a wave that is computed as a whole before it is settled: a store in memory gives the state
    /// away, so that it need not be copied.
    fn take_state(&self, run: &StageRun, chunk: usize) -> Result<ChunkState> {
        let state = self.state(run, chunk)?;
        if !self.store.is_durable() {
            self.store.release(Generation::written_by(run.index - 1), chunk);
        }
        Ok(state)
    }

    /// What the encoder made of a chunk's samples, for stacks that look at it.
    fn encoder_output(&self, stack: usize, chunk: &Chunk) -> Result<Option<EncoderOutput<B>>> {
        if stack == 0 {
            return Ok(None);
        }
        let rows = self.store.get(Generation::EncoderOutput, chunk.index)?.hidden;
        let width = rows.width();
        let hidden = B::from_host(rows.into_values(), width, self.factory.device());
        Ok(Some(EncoderOutput { hidden, offsets: self.samples.input.local_offsets(chunk.samples.clone()) }))
    }

    /// Takes a finished chunk over: statistics, outputs, the store. Its input is not needed again.
    fn emit(&mut self, run: &mut StageRun, chunk: &Chunk, hidden: Rows, carry: Vec<Carry>) -> Result<()> {
        if let Some(moments) = &mut run.moments {
            moments.add_rows(hidden.values());
        }
        if let Some(output) = run.hidden.clone() {
            let (chunk, hidden) = (chunk.clone(), hidden.clone());
            self.writer.submit(move || output.write(&chunk, &hidden))?;
        }
        if let Some(generation) = run.stage.written(run.index, self.stacks) {
            self.store.put(generation, chunk.index, ChunkState { hidden, carry })?;
        }
        self.leave(run, chunk);
        Ok(())
    }

    /// The end of a chunk: its input is not needed again.
    fn leave(&self, run: &StageRun, chunk: &Chunk) {
        if !matches!(run.stage, Stage::Embedding { .. }) {
            self.store.release(Generation::written_by(run.index - 1), chunk.index);
        }
        self.options.observer.chunk_done(chunk.tokens.len());
    }

    /// Between chunks, of which so many are done: the run ends here when it is cancelled, and is committed when that is
    /// due.
    fn settle(
        &mut self,
        run: &StageRun,
        chunks: usize,
        sync_more: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let position = Position { stage: run.index, chunks };
        if self.options.cancel.is_cancelled() {
            self.commit(run, position, sync_more)?;
            self.writer.flush()?;
            let (title, count) = (run.stage.title(&self.model.spec), self.chunks.len());
            return Err(SliError::Interrupted { done: format!("{title}, chunk {chunks} of {count}") });
        }
        if self.store.is_durable() && self.committer.is_due() {
            self.commit(run, position, sync_more)?;
        }
        Ok(())
    }

    fn commit(
        &mut self,
        run: &StageRun,
        position: Position,
        sync_more: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let note = Note {
            chunk_tokens: self.plan.chunk_tokens,
            seconds: self.totals.seconds(),
            bytes_read: self.totals.bytes_read,
            profiles: self.totals.profiles[self.totals.committed..].to_vec(),
            spilled: self.plan.spilled,
            router: run.router.as_ref().filter(|_| position.chunks > 0).map(ExactLoad::from),
        };
        self.totals.committed = self.totals.profiles.len();
        let hidden = run.hidden.clone();
        let sync = move || {
            hidden.map_or(Ok(()), |hidden| hidden.sync())?;
            sync_more()
        };
        self.committer.commit(&self.writer, &self.store, sync, position, &note)
    }

    /// The end of a stage, with so many `left`: its statistics and its profile, and a commit.
    fn end(&mut self, run: StageRun, left: usize) -> Result<()> {
        let spec = &self.model.spec;
        if let Some(moments) = &run.moments {
            let folder = self.output.join("stats");
            std::fs::create_dir_all(&folder).map_err(SliError::io("cannot create", &folder))?;
            write_stats(&folder.join(format!("{}.safetensors", run.name)), moments, run.router.as_ref())?;
        }
        let elapsed = run.started.elapsed();
        self.totals.profiles.push(LayerProfile {
            name: run.name.clone(),
            kind: run.stage.kind(spec),
            distribution: run.moments.as_ref().map(Distribution::new),
            router: run.router.as_ref().map(RouterProfile::from),
            bytes: run.bytes,
            experts: run.router.as_ref().map(|_| self.expert_reads(&run)),
            read_seconds: run.read.as_secs_f64(),
            compute_seconds: elapsed.saturating_sub(run.wait).as_secs_f64(),
            wait_seconds: run.wait.as_secs_f64(),
            write_seconds: self.writer.take_busy_time().as_secs_f64(),
        });
        self.options.observer.stage_finished();
        let here = (run.index + 1 - self.totals.first_stage) as u32;
        let to_come = self.totals.started.elapsed() / here * left as u32;
        if self.store.is_durable() || self.committer.is_worth_waiting_for(to_come) {
            // The next stage overwrites what this one read, and a store in memory must not change while it is saved:
            // so this commit is waited for.
            self.commit(&run, Position { stage: run.index + 1, chunks: 0 }, || Ok(()))?;
            self.committer.wait(&self.writer)?;
        }
        Ok(())
    }

    /// How much of a layer's experts was read.
    fn expert_reads(&self, run: &StageRun) -> ExpertReads {
        let (layout, place) = (&self.model.layout, run.stage.place());
        let experts = layout.groups(place).filter(|group| matches!(group, Group::Expert(_)));
        let bytes = experts.map(|expert| layout.group_bytes(place, expert)).sum();
        ExpertReads { bytes_read: run.expert_bytes, bytes }
    }

    fn sequences(&self, stack: usize) -> &TokenSequences {
        self.samples.sequences(stack)
    }
}
