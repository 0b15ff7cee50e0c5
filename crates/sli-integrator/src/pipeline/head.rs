//! The final norm, and the head in tiles of the vocabulary.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use sli_core::{ChunkState, Place, Result, Rows, TensorRole};
use sli_kernels::{RowSummary, update_rows};
use sli_layers::{Carried, Head, SliBackend, StackEnd, Tile};
use sli_weights::ReadRequest;

use crate::chunks::Chunk;
use crate::options::Logits;
use crate::output::{LogitsOutput, ScoresOutput};
use crate::pipeline::{Pipeline, StageRun};

/// What the head's logits are for.
struct HeadRun<B: SliBackend> {
    head: Head<B>,
    tiles: Vec<Range<usize>>,
    /// The tiles themselves, when all of them fit into memory.
    resident: Vec<Tile<B>>,
    /// Are the tiles on their way already, for the first wave?
    enqueued: bool,
    logits: Option<Arc<LogitsOutput>>,
    scores: Option<Arc<ScoresOutput>>,
}

/// A chunk on its way through the tiles.
struct HeadChunk<B: SliBackend> {
    chunk: Chunk,
    prepared: Tensor<B, 2>,
    summaries: Vec<RowSummary>,
    /// The token that each row is asked about, and its logit once its tile has been.
    targets: Vec<Option<u32>>,
    target_logits: Vec<f32>,
}

impl<B: SliBackend> Pipeline<'_, B> {
    /// Runs a stack's final norm; after the last stack also the head, when its logits are wanted.
    pub(super) fn run_final(&mut self, run: &mut StageRun, stack: usize, done: usize) -> Result<()> {
        let spec = &self.model.spec.stacks[stack];
        let end = match spec.final_norm.is_some() || spec.embedding.final_projection().is_some() {
            true => {
                let tensors = self.take_dense(run, 0)?;
                Some(self.factory.stack_end(spec, &tensors)?)
            }
            false => None,
        };
        let mut head = self.open_head(stack, done)?;
        let mut next = done;
        while next < self.chunks.len() {
            let mut wave = Vec::new();
            let mut tokens = 0;
            while next < self.chunks.len() {
                let chunk = self.chunk(next, stack);
                tokens += chunk.tokens.len();
                // Tiles that stay in memory are read once whatever the waves: the smallest wave will do.
                let fits = head
                    .as_ref()
                    .is_some_and(|_| !self.plan.head_resident && tokens <= self.plan.head_wave_tokens);
                if !wave.is_empty() && !fits {
                    break;
                }
                next += 1;
                let hidden = self.final_hidden(run, end.as_ref(), &chunk)?;
                match &head {
                    Some(head) => wave.push(head.enter(chunk, hidden, self.sequences(stack).tokens())),
                    None => {
                        self.leave(run, &chunk);
                        self.settle(run, next, || Ok(()))?;
                    }
                }
            }
            if let Some(head) = &mut head {
                self.run_head(run, head, &mut wave)?;
                for chunk in wave {
                    self.leave_head(run, head, chunk)?;
                }
            }
        }
        self.writer.flush()
    }

    fn open_head(&mut self, stack: usize, done: usize) -> Result<Option<HeadRun<B>>> {
        let (spec, options) = (&self.model.spec, self.options);
        let last = stack + 1 == self.stacks && self.stacks == spec.stacks.len();
        let Some(head) = spec.head.as_ref().filter(|_| last) else { return Ok(None) };
        let (sequences, samples_done) = (self.sequences(stack), self.chunks.samples_before(done));
        let logits =
            LogitsOutput::new(self.output, options.logits, head.vocab_size, sequences, samples_done)?;
        let scores =
            options.score.then(|| ScoresOutput::new(self.output, sequences, samples_done)).transpose()?;
        if logits.is_none() && scores.is_none() {
            return Ok(None);
        }
        Ok(Some(HeadRun {
            head: self.factory.head(head, &self.small_tensors(Place::Head, &[TensorRole::LmHead])?)?,
            tiles: self.head_tiles().collect(),
            resident: Vec::new(),
            enqueued: true,
            logits: logits.map(Arc::new),
            scores: scores.map(Arc::new),
        }))
    }

    /// The tiles of the vocabulary that this run asks for, none when it wants no logits.
    pub(super) fn head_tiles(&self) -> impl Iterator<Item = Range<usize>> + use<B> {
        let wanted = self.options.score || self.options.logits != Logits::None;
        let head =
            self.model.spec.head.as_ref().filter(|_| wanted && self.stacks == self.model.spec.stacks.len());
        let (rows, vocab_size) = (self.plan.head_tile_rows, head.map_or(0, |head| head.vocab_size));
        (0..vocab_size).step_by(rows).map(move |first| first..(first + rows).min(vocab_size))
    }

    /// The hidden state after the final norm, written and handed on.
    fn final_hidden(
        &mut self,
        run: &StageRun,
        end: Option<&StackEnd<B>>,
        chunk: &Chunk,
    ) -> Result<Tensor<B, 2>> {
        let ChunkState { hidden: input, carry } = self.state(run, chunk.index)?;
        let device = self.factory.device().clone();
        let rows = match end {
            Some(end) => {
                let width = input.width();
                let x = B::from_host(input.into_values(), width, &device);
                let x = end.forward(x, Carried::from_host(carry, &device)); // [tokens, final width]
                Rows::new(x.dims()[1], B::to_host(x))
            }
            None => input,
        };
        if let Some(output) = run.hidden.clone() {
            let (chunk, rows) = (chunk.clone(), rows.clone());
            self.writer.submit(move || output.write(&chunk, &rows))?;
        }
        if let Some(generation) = run.stage.written(run.index, self.stacks) {
            self.store.put(generation, chunk.index, ChunkState::new(rows.clone()))?;
        }
        let width = rows.width();
        Ok(B::from_host(rows.into_values(), width, &device))
    }

    /// Takes the chunks of a wave through all tiles.
    fn run_head(
        &mut self,
        run: &mut StageRun,
        head: &mut HeadRun<B>,
        wave: &mut [HeadChunk<B>],
    ) -> Result<()> {
        let requests: Vec<_> = head.tiles.iter().cloned().map(tile_request).collect();
        let in_memory = head.resident.len() == head.tiles.len();
        if !in_memory && !std::mem::take(&mut head.enqueued) {
            self.stream.enqueue(requests.iter().cloned());
        }
        for (index, request) in requests.iter().enumerate() {
            let rows = head.tiles[index].clone();
            let tile = if in_memory {
                head.resident[index].clone()
            } else {
                let tensors = self.take(run, request)?;
                let tile = head.head.tile(tensors.require(TensorRole::LmHead.weight())?, rows.start);
                if self.plan.head_resident {
                    head.resident.push(tile.clone());
                }
                tile
            };
            for chunk in wave.iter_mut() {
                self.run_tile(head, chunk, &tile, rows.clone())?;
            }
        }
        Ok(())
    }

    fn run_tile(
        &self,
        head: &HeadRun<B>,
        chunk: &mut HeadChunk<B>,
        tile: &Tile<B>,
        rows: Range<usize>,
    ) -> Result<()> {
        let logits = B::to_host(tile.logits(chunk.prepared.clone())); // [tokens, rows of the tile]
        let width = rows.len();
        if !chunk.summaries.is_empty() {
            update_rows(&mut chunk.summaries, &logits, width, rows.start);
        }
        for (row, target) in chunk.targets.iter().enumerate() {
            if let Some(target) = target.map(|id| id as usize).filter(|id| rows.contains(id)) {
                chunk.target_logits[row] = logits[row * width + target - rows.start];
            }
        }
        if let Some(output) = head.logits.clone().filter(|output| output.is_full()) {
            let chunk = chunk.chunk.clone();
            self.writer.submit(move || output.write_tile(&chunk, rows.start, width, &logits))?;
        } else {
            B::recycle(logits);
        }
        Ok(())
    }

    /// Writes what became of a chunk.
    fn leave_head(&mut self, run: &StageRun, head: &HeadRun<B>, chunk: HeadChunk<B>) -> Result<()> {
        if let Some(scores) = head.scores.clone() {
            let (values, chunk) = (chunk.log_likelihoods(), chunk.chunk.clone());
            self.writer.submit(move || scores.write(&chunk, &values))?;
        }
        let HeadChunk { chunk, summaries, .. } = chunk;
        if let Some(logits) = head.logits.clone() {
            let chunk = chunk.clone();
            self.writer.submit(move || logits.finish_chunk(&chunk, &summaries))?;
        }
        let (logits, scores) = (head.logits.clone(), head.scores.clone());
        self.leave(run, &chunk);
        self.settle(run, chunk.index + 1, move || {
            logits.map_or(Ok(()), |logits| logits.sync())?;
            scores.map_or(Ok(()), |scores| scores.sync())
        })
    }
}

impl<B: SliBackend> HeadRun<B> {
    /// Prepares a chunk; `tokens` are those of the whole dataset.
    fn enter(&self, chunk: Chunk, final_hidden: Tensor<B, 2>, tokens: &[u32]) -> HeadChunk<B> {
        let count = chunk.tokens.len();
        let top_k = self.logits.as_ref().map_or(0, |logits| logits.top_k());
        let summarize = top_k > 0 || self.scores.is_some();
        let targets = match self.scores {
            Some(_) => next_tokens(&chunk, tokens),
            None => Vec::new(),
        };
        HeadChunk {
            prepared: self.head.prepare(final_hidden),
            summaries: if summarize { vec![RowSummary::new(top_k); count] } else { Vec::new() },
            target_logits: vec![0.0; targets.len()],
            targets,
            chunk,
        }
    }
}

impl<B: SliBackend> HeadChunk<B> {
    /// ln p(token | tokens before it), zero for the first of each sample.
    fn log_likelihoods(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.targets.len()];
        for (row, target) in self.targets.iter().enumerate() {
            if target.is_some() {
                values[row + 1] = self.target_logits[row] - self.summaries[row].log_sum_exp();
            }
        }
        values
    }
}

/// The token after each row, within its sample.
fn next_tokens(chunk: &Chunk, tokens: &[u32]) -> Vec<Option<u32>> {
    let first = chunk.tokens.start;
    chunk
        .offsets
        .windows(2)
        .flat_map(|sample| (sample[0]..sample[1]).map(move |row| (row, sample[1])))
        .map(|(row, end)| (row + 1 < end).then(|| tokens[first + row + 1]))
        .collect()
}

/// How a tile is asked for.
pub(super) fn tile_request(rows: Range<usize>) -> ReadRequest {
    ReadRequest::Rows(Place::Head, TensorRole::LmHead.weight(), rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_token_of_a_sample_predicts_nothing() {
        let chunk = Chunk { index: 0, samples: 1..3, tokens: 2..7, offsets: vec![0, 2, 5] };
        let tokens = [9, 9, 10, 11, 12, 13, 14];
        assert_eq!(next_tokens(&chunk, &tokens), [Some(11), None, Some(13), Some(14), None]);
    }
}
