//! Samples as token ids, packed end to end.

use std::ops::Range;

use serde_json::Value;

/// Sequences of token ids laid end to end: sequence i owns `tokens[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenSequences {
    tokens: Vec<u32>,
    offsets: Vec<usize>,
}

impl Default for TokenSequences {
    fn default() -> Self {
        Self { tokens: Vec::new(), offsets: vec![0] }
    }
}

impl TokenSequences {
    /// Adds a sequence.
    pub(crate) fn push(&mut self, ids: &[u32]) {
        self.tokens.extend_from_slice(ids);
        self.offsets.push(self.tokens.len());
    }

    /// Number of sequences.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Tokens of all sequences together.
    pub(crate) fn num_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens of sequence `index`.
    pub(crate) fn length(&self, index: usize) -> usize {
        self.offsets[index + 1] - self.offsets[index]
    }

    /// Tokens of each sequence.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.offsets.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// The token ids of all sequences.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The token ids of some sequences.
    pub(crate) fn ids(&self, sequences: Range<usize>) -> &[u32] {
        &self.tokens[self.rows(sequences)]
    }

    /// Which tokens belong to some sequences.
    pub(crate) fn rows(&self, sequences: Range<usize>) -> Range<usize> {
        self.offsets[sequences.start]..self.offsets[sequences.end]
    }

    /// Where some sequences start among themselves: begins with zero, ends with their number of tokens.
    pub(crate) fn local_offsets(&self, sequences: Range<usize>) -> Vec<usize> {
        let first = self.offsets[sequences.start];
        self.offsets[sequences.start..=sequences.end].iter().map(|offset| offset - first).collect()
    }
}

/// What is known of a sample besides its tokens.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Sample {
    /// Echoed from the record.
    pub(crate) id: Option<Value>,
    /// Was it cut to the maximal length?
    pub(crate) truncated: bool,
    /// The first token that is scored: 1 unless the record has a context that is not.
    pub(crate) scored_from: usize,
}

/// A tokenized dataset.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(crate) struct Samples {
    /// A sample per record, in their order.
    pub(crate) samples: Vec<Sample>,
    /// What the first stack reads.
    pub(crate) input: TokenSequences,
    /// What the decoder of an encoder-decoder reads, when the records say it.
    pub(crate) decoder_input: Option<TokenSequences>,
    /// A type per input token, when any record has them.
    pub(crate) token_types: Option<Vec<u32>>,
    /// A position per input token, when any record has them.
    pub(crate) positions: Option<Vec<u32>>,
    /// Bad records that were skipped.
    pub(crate) skipped: usize,
}

impl Samples {
    /// So many tokens of all kinds in samples of one length, the last one perhaps shorter: a dataset to plan with, not to
    /// run.
    pub(crate) fn uniform(tokens: usize, length: usize, vocab_size: usize, decoder: bool) -> Self {
        let mut samples = Self::default();
        // A step without common factors with most sizes, so that few tokens repeat.
        let id = |token: usize| (token as u64 * 7919 % vocab_size.max(1) as u64) as u32;
        for start in (0..tokens).step_by(length.max(1)) {
            let ids: Vec<u32> = (start..tokens.min(start + length)).map(id).collect();
            samples.input.push(&ids);
            samples.samples.push(Sample { id: None, truncated: false, scored_from: 1 });
        }
        samples.decoder_input = decoder.then(|| samples.input.clone());
        samples
    }

    /// Number of samples.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Tokens of all stacks together.
    pub(crate) fn num_tokens(&self) -> usize {
        self.input.num_tokens() + self.decoder_input.as_ref().map_or(0, TokenSequences::num_tokens)
    }

    /// The tokens that stack `stack` reads.
    ///
    /// # Panics
    /// When the decoder is asked for and there is nothing for it to read.
    pub(crate) fn sequences(&self, stack: usize) -> &TokenSequences {
        match stack {
            0 => &self.input,
            _ => self.decoder_input.as_ref().expect("a decoder runs only when the records give it tokens"),
        }
    }

    /// Samples that were cut.
    pub(crate) fn num_truncated(&self) -> usize {
        self.samples.iter().filter(|sample| sample.truncated).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_found_again() {
        let mut sequences = TokenSequences::default();
        for ids in [&[1, 2, 3][..], &[4], &[5, 6]] {
            sequences.push(ids);
        }
        assert_eq!((sequences.len(), sequences.num_tokens()), (3, 6));
        assert_eq!(sequences.ids(1..3), [4, 5, 6]);
        assert_eq!(sequences.local_offsets(1..3), [0, 1, 3]);
        assert_eq!(sequences.rows(2..3), 4..6);
    }
}
