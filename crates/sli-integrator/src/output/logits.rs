//! Logits and scores on disk.

use std::path::Path;

use sli_core::Result;
use sli_kernels::RowSummary;

use crate::chunks::Chunk;
use crate::dataset::TokenSequences;
use crate::options::Logits;
use crate::output::rows::{Column, RowsOutput};

/// Where logits go: all of them, or the largest with the log-sum-exp.
#[derive(Debug)]
pub(crate) struct LogitsOutput {
    rows: RowsOutput,
    kind: Logits,
}

impl LogitsOutput {
    /// The output in `OUTPUT/logits`, or none when none is wanted.
    pub(crate) fn new(
        output: &Path,
        kind: Logits,
        vocab_size: usize,
        sequences: &TokenSequences,
        samples_done: usize,
    ) -> Result<Option<Self>> {
        let columns = match kind {
            Logits::None => return Ok(None),
            Logits::Full => vec![Column::f32("logits", Some(vocab_size))],
            Logits::Top(k) => vec![
                Column::f32("values", Some(k)),
                Column::i32("indices", Some(k)),
                Column::f32("logsumexp", None),
            ],
        };
        let lengths: Vec<usize> = sequences.lengths().collect();
        let rows_done = sequences.rows(0..samples_done).end;
        Ok(Some(Self { rows: RowsOutput::new(output.join("logits"), columns, &lengths, rows_done)?, kind }))
    }

    /// How many of the largest logits each row's summary has to keep.
    pub(crate) fn top_k(&self) -> usize {
        match self.kind {
            Logits::Top(k) => k,
            Logits::None | Logits::Full => 0,
        }
    }

    /// Are whole rows of logits wanted?
    pub(crate) fn is_full(&self) -> bool {
        self.kind == Logits::Full
    }

    /// Writes a tile [tokens of the chunk, width] of full logits.
    pub(crate) fn write_tile(&self, chunk: &Chunk, first: usize, width: usize, logits: &[f32]) -> Result<()> {
        self.rows.write_tile(0, chunk.tokens.start, first, width, bytemuck::cast_slice(logits))
    }

    /// Finishes a chunk; `summaries` are those of its rows.
    pub(crate) fn finish_chunk(&self, chunk: &Chunk, summaries: &[RowSummary]) -> Result<()> {
        if let Logits::Top(_) = self.kind {
            let top = || summaries.iter().flat_map(|row| row.top());
            let values: Vec<f32> = top().map(|(value, _)| *value).collect();
            let indices: Vec<i32> = top().map(|(_, index)| *index as i32).collect();
            let sums: Vec<f32> = summaries.iter().map(RowSummary::log_sum_exp).collect();
            self.rows.write(0, chunk.tokens.start, bytemuck::cast_slice(&values))?;
            self.rows.write(1, chunk.tokens.start, bytemuck::cast_slice(&indices))?;
            self.rows.write(2, chunk.tokens.start, bytemuck::cast_slice(&sums))?;
        }
        self.rows.rows_done(chunk.tokens.clone())
    }

    /// Makes everything written so far survive a crash.
    pub(crate) fn sync(&self) -> Result<()> {
        self.rows.sync()
    }
}

/// The log-likelihood of each token given those before it; zero for the first of each sample.
#[derive(Debug)]
pub(crate) struct ScoresOutput(RowsOutput);

impl ScoresOutput {
    /// The output in `OUTPUT/scores`.
    pub(crate) fn new(output: &Path, sequences: &TokenSequences, samples_done: usize) -> Result<Self> {
        let lengths: Vec<usize> = sequences.lengths().collect();
        let rows_done = sequences.rows(0..samples_done).end;
        let columns = vec![Column::f32("token_log_likelihood", None)];
        Ok(Self(RowsOutput::new(output.join("scores"), columns, &lengths, rows_done)?))
    }

    /// Writes a chunk's values, one per token.
    pub(crate) fn write(&self, chunk: &Chunk, log_likelihoods: &[f32]) -> Result<()> {
        self.0.write(0, chunk.tokens.start, bytemuck::cast_slice(log_likelihoods))?;
        self.0.rows_done(chunk.tokens.clone())
    }

    /// Makes everything written so far survive a crash.
    pub(crate) fn sync(&self) -> Result<()> {
        self.0.sync()
    }
}

/// Reads the token log-likelihoods of a finished run back, in order of tokens.
pub(crate) fn read_scores(output: &Path) -> Result<Vec<f32>> {
    use sli_core::SliError;
    let folder = output.join("scores");
    let entries = std::fs::read_dir(&folder).map_err(SliError::io("cannot read", &folder))?;
    let mut parts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    parts.sort();
    let mut values = Vec::new();
    for path in parts {
        let bytes = std::fs::read(&path).map_err(SliError::io("cannot read", &path))?;
        let unusable = |e: safetensors::SafeTensorError| SliError::Usage(format!("{}: {e}", path.display()));
        let tensors = safetensors::SafeTensors::deserialize(&bytes).map_err(unusable)?;
        let view = tensors.tensor("token_log_likelihood").map_err(unusable)?;
        values.extend(view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    Ok(values)
}
