//! Hidden states on disk, per token or pooled per sample.

use std::path::PathBuf;

use half::{bf16, f16};
use rayon::prelude::*;
use sli_core::{Result, Rows};

use crate::chunks::Chunk;
use crate::dataset::TokenSequences;
use crate::options::{HiddenDtype, Pooling};
use crate::output::rows::{Column, RowsOutput};

/// One folder of hidden states: the embedding, a layer, or after the final norm.
#[derive(Debug)]
pub(crate) struct HiddenOutput {
    rows: RowsOutput,
    dtype: HiddenDtype,
    pool: Pooling,
}

impl HiddenOutput {
    /// An output for all `sequences`, of which the first `samples_done` were written by an earlier process.
    pub(crate) fn new(
        folder: PathBuf,
        width: usize,
        dtype: HiddenDtype,
        pool: Pooling,
        sequences: &TokenSequences,
        samples_done: usize,
    ) -> Result<Self> {
        let column = match dtype {
            HiddenDtype::F32 => Column::f32("hidden_states", Some(width)),
            HiddenDtype::F16 => Column::half("hidden_states", "F16", width),
            HiddenDtype::Bf16 => Column::half("hidden_states", "BF16", width),
        };
        let (lengths, rows_done): (Vec<usize>, _) = match pool {
            Pooling::None => (sequences.lengths().collect(), sequences.rows(0..samples_done).end),
            _ => (vec![1; sequences.len()], samples_done),
        };
        Ok(Self { rows: RowsOutput::new(folder, vec![column], &lengths, rows_done)?, dtype, pool })
    }

    /// Writes the hidden states of a chunk.
    pub(crate) fn write(&self, chunk: &Chunk, hidden: &Rows) -> Result<()> {
        let width = hidden.width();
        match self.pool {
            Pooling::None => {
                self.write_values(chunk.tokens.start, hidden.values())?;
                self.rows.rows_done(chunk.tokens.clone())
            }
            pool => {
                let pooled: Vec<f32> = chunk
                    .offsets
                    .par_windows(2)
                    .flat_map_iter(|pair| {
                        pooled(pool, &hidden.values()[pair[0] * width..pair[1] * width], width)
                    })
                    .collect();
                self.write_values(chunk.samples.start, &pooled)?;
                self.rows.rows_done(chunk.samples.clone())
            }
        }
    }

    fn write_values(&self, first_row: usize, values: &[f32]) -> Result<()> {
        match self.dtype {
            HiddenDtype::F32 => self.rows.write(0, first_row, bytemuck::cast_slice(values)),
            HiddenDtype::F16 => {
                let rounded: Vec<f16> = values.par_iter().map(|v| f16::from_f32(*v)).collect();
                self.rows.write(0, first_row, bytemuck::cast_slice(&rounded))
            }
            HiddenDtype::Bf16 => {
                let rounded: Vec<bf16> = values.par_iter().map(|v| bf16::from_f32(*v)).collect();
                self.rows.write(0, first_row, bytemuck::cast_slice(&rounded))
            }
        }
    }

    /// Makes everything written so far survive a crash.
    pub(crate) fn sync(&self) -> Result<()> {
        self.rows.sync()
    }
}

/// One vector for the rows of a sample, which has at least one.
fn pooled(pool: Pooling, rows: &[f32], width: usize) -> Vec<f32> {
    match pool {
        Pooling::Cls | Pooling::None => rows[..width].to_vec(),
        Pooling::Last => rows[rows.len() - width..].to_vec(),
        Pooling::Mean => {
            let mut sums = vec![0.0f64; width];
            for row in rows.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
            }
            let count = (rows.len() / width) as f64;
            sums.into_iter().map(|sum| (sum / count) as f32).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_takes_one_vector_per_sample() {
        let rows = [1.0, 2.0, 3.0, 4.0, 8.0, 9.0];
        assert_eq!(pooled(Pooling::Cls, &rows, 2), [1.0, 2.0]);
        assert_eq!(pooled(Pooling::Last, &rows, 2), [8.0, 9.0]);
        assert_eq!(pooled(Pooling::Mean, &rows, 2), [4.0, 5.0]);
    }
}
