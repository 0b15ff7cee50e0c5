//! How a dataset is cut into chunks of whole samples.

use std::ops::Range;

use crate::dataset::{Samples, TokenSequences};

/// Some consecutive samples, as one stack reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Which chunk.
    pub(crate) index: usize,
    /// Its samples.
    pub(crate) samples: Range<usize>,
    /// Its tokens among all of the dataset.
    pub(crate) tokens: Range<usize>,
    /// Where each sample starts within the chunk.
    pub(crate) offsets: Vec<usize>,
}

/// The chunks of a dataset: the same samples in every stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    samples: Vec<Range<usize>>,
}

impl Chunks {
    /// Consecutive samples whose tokens (of the longer stack) are at most `tokens`, at most `batch_size` of them, and
    /// at least one.
    pub(crate) fn new(samples: &Samples, tokens: usize, batch_size: Option<usize>) -> Self {
        let batch_size = batch_size.unwrap_or(usize::MAX);
        let mut chunks: Vec<Range<usize>> = Vec::new();
        let mut filled = 0;
        for sample in 0..samples.len() {
            let length = sample_length(samples, sample);
            match chunks.last_mut() {
                Some(chunk) if chunk.len() < batch_size && filled + length <= tokens => {
                    chunk.end += 1;
                    filled += length;
                }
                _ => {
                    chunks.push(sample..sample + 1);
                    filled = length;
                }
            }
        }
        Self { samples: chunks }
    }

    /// Number of chunks.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Samples in the first `chunks` chunks.
    pub(crate) fn samples_before(&self, chunks: usize) -> usize {
        if chunks == 0 { 0 } else { self.samples[chunks - 1].end }
    }

    /// Chunk `index` as the stack that reads `sequences` sees it.
    pub(crate) fn chunk(&self, index: usize, sequences: &TokenSequences) -> Chunk {
        let samples = self.samples[index].clone();
        Chunk {
            index,
            tokens: sequences.rows(samples.clone()),
            offsets: sequences.local_offsets(samples.clone()),
            samples,
        }
    }

    /// Tokens of a chunk, on average.
    pub(crate) fn mean_tokens(&self, samples: &Samples) -> usize {
        let tokens: usize = (0..samples.len()).map(|sample| sample_length(samples, sample)).sum();
        tokens / self.len().max(1)
    }

    /// Tokens of the largest chunk.
    pub(crate) fn largest(&self, samples: &Samples) -> usize {
        let tokens = |chunk: &Range<usize>| chunk.clone().map(|sample| sample_length(samples, sample)).sum();
        self.samples.iter().map(tokens).max().unwrap_or(0)
    }
}

/// Tokens of a sample in the stack where it is longer.
pub(crate) fn sample_length(samples: &Samples, sample: usize) -> usize {
    let decoder = samples.decoder_input.as_ref().map_or(0, |decoder| decoder.length(sample));
    samples.input.length(sample).max(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Sample;

    fn samples(lengths: &[usize]) -> Samples {
        let mut samples = Samples::default();
        for length in lengths {
            samples.input.push(&vec![0; *length]);
            samples.samples.push(Sample { id: None, truncated: false, scored_from: 1 });
        }
        samples
    }

    #[test]
    fn chunks_hold_whole_samples() {
        let samples = samples(&[3, 3, 9, 1, 1, 1]);
        assert_eq!(Chunks::new(&samples, 6, None).samples, [0..2, 2..3, 3..6]);
        assert_eq!(Chunks::new(&samples, 6, Some(2)).samples, [0..2, 2..3, 3..5, 5..6]);
        assert_eq!(Chunks::new(&samples, 6, None).largest(&samples), 9);
        let chunk = Chunks::new(&samples, 6, None).chunk(2, &samples.input);
        assert_eq!((chunk.tokens, chunk.offsets), (15..18, vec![0, 1, 2, 3]));
    }
}
