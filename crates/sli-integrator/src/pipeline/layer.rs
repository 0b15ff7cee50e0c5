//! A layer, chunk by chunk; with experts, wave by wave.

use std::ops::Range;

use rayon::prelude::*;
use sli_core::{ChunkState, Ffn, LayerPart, Place, Result, Rows};
use sli_layers::{Block, Carried, ChunkContext, Forward, SliBackend};
use sli_moe::RouterLoad;

use crate::chunks::Chunk;
use crate::pipeline::{Pipeline, StageRun};

/// A chunk that went through a block, what came of it, and what is carried beside it.
type Passed<B> = (Chunk, Forward<B>, Carried<B>);

impl<B: SliBackend> Pipeline<'_, B> {
    /// Runs a layer, or a part of it, from chunk `done` on.
    pub(super) fn run_layer(
        &mut self,
        run: &mut StageRun,
        stack: usize,
        layer: usize,
        part: LayerPart,
        done: usize,
    ) -> Result<()> {
        let (place, spec) = (Place::Layer { stack, layer }, &self.model.spec.stacks[stack]);
        let tensors = self.take_dense(run, layer)?;
        let block = self.factory.block(&spec.layers[layer], part, tensors)?;
        let has_experts = if let Some(Ffn::Moe(moe)) = &spec.layers[layer].ffn {
            run.router.get_or_insert_with(|| RouterLoad::new(moe.num_experts + moe.router.idle_experts()));
            true
        } else {
            false
        };
        let mut next = done;
        while next < self.chunks.len() {
            let wave = self.wave(next, stack, has_experts);
            next = wave.end;
            let mut waiting = Vec::new();
            for first in wave.clone().step_by(self.plan.chunks_abreast) {
                let abreast = first..(first + self.plan.chunks_abreast).min(wave.end);
                for (chunk, forward, carried) in self.forward_abreast(run, &block, abreast, stack)? {
                    match forward {
                        Forward::Done(hidden) => {
                            let hidden = Rows::new(spec.hidden_size, B::to_host(hidden));
                            self.emit(run, &chunk, hidden, carried.into_host())?;
                        }
                        Forward::Pending(pending) => waiting.push((chunk, pending, carried)),
                    }
                }
            }
            self.run_experts(run, &block, place, layer, &waiting)?;
            for (chunk, pending, mut carried) in waiting {
                if let Some(load) = &mut run.router {
                    load.add(&pending.routing);
                }
                let hidden = Rows::new(spec.hidden_size, B::to_host(block.finish(*pending, &mut carried)));
                self.emit(run, &chunk, hidden, carried.into_host())?;
            }
            self.settle(run, next, || Ok(()))?;
        }
        Ok(())
    }

    /// Chunks from `first` on that go through the layer together, at least one: with experts, those that wait for them
    /// together; without, those that are computed side by side.
    fn wave(&self, first: usize, stack: usize, has_experts: bool) -> Range<usize> {
        if !has_experts {
            return first..(first + self.plan.chunks_abreast).min(self.chunks.len());
        }
        let start = self.chunk(first, stack).tokens.start;
        let fits = |end: &usize| self.chunk(*end, stack).tokens.end - start <= self.plan.wave_tokens;
        let end = (first + 1..self.chunks.len()).take_while(fits).last().map_or(first + 1, |last| last + 1);
        first..end
    }

    /// Chunks that are computed side by side, each by a thread that others help once they have nothing else to do.
    fn forward_abreast(
        &self,
        run: &StageRun,
        block: &Block<B>,
        chunks: Range<usize>,
        stack: usize,
    ) -> Result<Vec<Passed<B>>> {
        let entering = chunks.map(|index| Ok((self.chunk(index, stack), self.take_state(run, index)?)));
        let entering: Vec<_> = entering.collect::<Result<_>>()?;
        let forward = |(chunk, state)| {
            let (forward, carried) = self.forward(block, &chunk, state, stack)?;
            Ok((chunk, forward, carried))
        };
        match entering.len() {
            1 => entering.into_iter().map(forward).collect(),
            _ => entering.into_par_iter().with_max_len(1).map(forward).collect(),
        }
    }

    fn forward(
        &self,
        block: &Block<B>,
        chunk: &Chunk,
        state: ChunkState,
        stack: usize,
    ) -> Result<(Forward<B>, Carried<B>)> {
        let ChunkState { hidden: input, carry } = state;
        let encoder = self.encoder_output(stack, chunk)?;
        let (width, device) = (input.width(), self.factory.device());
        let context = ChunkContext {
            offsets: &chunk.offsets,
            tokens: self.samples.sequences(stack).ids(chunk.samples.clone()),
            positions: self.positions(chunk, stack),
            rope: &self.rope,
            encoder: encoder.as_ref(),
            device,
        };
        let mut carried = Carried::from_host(carry, device);
        let x = B::from_host(input.into_values(), width, device);
        Ok((block.forward(x, &mut carried, &context), carried))
    }
}
