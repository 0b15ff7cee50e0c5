//! A layer, chunk by chunk; with experts, wave by wave.

use std::ops::Range;

use sli_core::{ChunkState, Ffn, LayerPart, Place, Result, Rows};
use sli_layers::{Block, Carried, ChunkContext, Forward, SliBackend};
use sli_moe::RouterLoad;

use crate::chunks::Chunk;
use crate::pipeline::{Pipeline, StageRun};

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
        let wave_tokens = match &spec.layers[layer].ffn {
            Some(Ffn::Moe(moe)) => {
                run.router
                    .get_or_insert_with(|| RouterLoad::new(moe.num_experts + moe.router.idle_experts()));
                self.plan.wave_tokens
            }
            // A chunk that does not wait is a wave of its own.
            _ => 0,
        };
        let mut next = done;
        while next < self.chunks.len() {
            let wave = self.wave(next, stack, wave_tokens);
            next = wave.end;
            // A commit after the first chunk of several needs the inputs of the others.
            let alone = wave.len() == 1;
            let mut waiting = Vec::new();
            for index in wave {
                let chunk = self.chunk(index, stack);
                let state = if alone { self.take_state(run, index)? } else { self.state(run, index)? };
                let (forward, carried) = self.forward(&block, &chunk, state, stack)?;
                match forward {
                    Forward::Done(hidden) => {
                        let hidden = Rows::new(spec.hidden_size, B::to_host(hidden));
                        self.emit(run, &chunk, hidden, carried.into_host())?;
                    }
                    Forward::Pending(pending) => waiting.push((chunk, pending, carried)),
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
        }
        Ok(())
    }

    /// Chunks from `first` on that have at most `tokens` tokens together, at least one.
    fn wave(&self, first: usize, stack: usize, tokens: usize) -> Range<usize> {
        let start = self.chunk(first, stack).tokens.start;
        let fits = |end: &usize| self.chunk(*end, stack).tokens.end - start <= tokens;
        let end = (first + 1..self.chunks.len()).take_while(fits).last().map_or(first + 1, |last| last + 1);
        first..end
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
