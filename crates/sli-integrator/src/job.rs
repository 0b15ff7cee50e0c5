//! A run with its plan, on a backend.

use std::sync::Arc;
use std::time::Instant;

use sli_cache::{BackgroundStore, ResidentStore, RunJournal, SlotLayout, SpilledStore};
use sli_core::{ActivationStore, ByteSize, Generation, Result, StackSpec};
use sli_layers::{Precision, RopeCache, SliBackend, UniversalLayerFactory};
use sli_weights::{ReadMode, StreamOptions, WeightStream};

use crate::chunks::Chunks;
use crate::dataset::Samples;
use crate::integrator::UniversalSliIntegrator;
use crate::options::{HiddenDtype, RunOptions};
use crate::pipeline::{Committer, Past, Pipeline, Totals, Writer};
use crate::plan::MemoryPlan;

/// A run with its plan, ready for any backend.
pub(crate) struct Job<'a> {
    pub(crate) sli: &'a UniversalSliIntegrator,
    pub(crate) options: &'a RunOptions,
    pub(crate) precision: Precision,
    pub(crate) hidden_dtype: HiddenDtype,
    pub(crate) samples: &'a Samples,
    pub(crate) chunks: &'a Chunks,
    pub(crate) plan: &'a MemoryPlan,
    pub(crate) past: Option<&'a Past>,
    pub(crate) started: Instant,
}

/// Jobs that may wait for the writer; each holds the rows of a chunk.
const WRITER_QUEUE: usize = 2;

impl Job<'_> {
    /// Runs what is left to do.
    ///
    /// # Errors
    /// Everything that can happen to a run.
    pub(crate) fn on<B: SliBackend>(
        &self,
        journal: RunJournal,
        device: burn::tensor::Device<B>,
    ) -> Result<(Totals, Committer)> {
        // On a thread of the pool that computes: it takes its share of each kernel at once, where another thread would
        // have to wake the pool and be woken by it, which takes as long as a small product.
        rayon::scope(|_| self.on_this_thread::<B>(journal, device))
    }

    fn on_this_thread<B: SliBackend>(
        &self,
        journal: RunJournal,
        device: burn::tensor::Device<B>,
    ) -> Result<(Totals, Committer)> {
        let Self { sli, options, samples, chunks, plan, .. } = *self;
        let model = &sli.model;
        let past = self.past.cloned().unwrap_or_default();
        let store = self.store()?;
        tracing::info!(
            chunks = chunks.len(),
            chunk_tokens = plan.chunk_tokens,
            spilled = plan.spilled,
            read_ahead = %ByteSize(plan.read_ahead),
            planned_peak = %ByteSize(plan.peak()),
            "starting at stage {}, chunk {}",
            past.position.stage,
            past.position.chunks,
        );
        let stream_options = StreamOptions {
            // What the current layer holds counts too.
            ahead_bytes: plan.largest_group + plan.read_ahead,
            urgent_bytes: plan.experts_held,
            mode: ReadMode::Direct,
        };
        let mut pipeline = Pipeline::<B> {
            model,
            samples,
            chunks,
            options,
            plan,
            output: &sli.output_dir,
            hidden_dtype: self.hidden_dtype,
            stacks: if samples.decoder_input.is_some() { model.spec.stacks.len() } else { 1 },
            factory: UniversalLayerFactory::new(self.precision, device)
                .with_linear_inputs(model.spec.linear_inputs),
            stream: WeightStream::new(model.layout.clone(), stream_options)?,
            committer: Committer::new(journal, options.commit_interval, &*store),
            store,
            writer: Writer::new(WRITER_QUEUE)?,
            rope: RopeCache::new(),
            totals: Totals::new(&past, self.started),
        };
        pipeline.run(&past)?;
        Ok((pipeline.totals, pipeline.committer))
    }

    fn store(&self) -> Result<Arc<dyn ActivationStore>> {
        let dir = &self.sli.activation_dir;
        if !self.plan.spilled {
            let snapshot = self.past.and_then(|past| past.snapshot);
            return Ok(match snapshot {
                Some(snapshot) => Arc::new(ResidentStore::open(dir, snapshot)?),
                None => Arc::new(ResidentStore::create(dir)?),
            });
        }
        let store = match self.past {
            Some(_) => SpilledStore::open(dir)?,
            None => SpilledStore::create(dir, &self.slots())?,
        };
        let widths = self.sli.model.spec.stacks.iter().map(StackSpec::state_width);
        let queue = 2 * self.plan.chunk_tokens * widths.max().unwrap_or(0) * 4;
        Ok(Arc::new(BackgroundStore::new(Arc::new(store), queue as u64)?))
    }

    /// Room for each chunk on disk.
    fn slots(&self) -> SlotLayout {
        let spec = &self.sli.model.spec;
        let bytes = |stack: usize| -> Vec<u64> {
            let (sequences, width) = (self.samples.sequences(stack), spec.stacks[stack].state_width() as u64);
            (0..self.chunks.len())
                .map(|i| self.chunks.chunk(i, sequences).tokens.len() as u64 * width * 4)
                .collect()
        };
        let mut widest = bytes(0);
        let mut layout = SlotLayout::default();
        if self.samples.decoder_input.is_some() {
            layout = layout.with(Generation::EncoderOutput, widest.clone());
            widest.iter_mut().zip(bytes(1)).for_each(|(most, bytes)| *most = bytes.max(*most));
        } else if spec.is_encoder_decoder() {
            layout = layout.with(Generation::EncoderOutput, widest.clone());
        }
        layout.with(Generation::Even, widest.clone()).with(Generation::Odd, widest)
    }
}
