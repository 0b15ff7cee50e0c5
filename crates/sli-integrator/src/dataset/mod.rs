//! Datasets: from files and texts to records, from records to packed tokens.

mod chat;
mod read;
mod record;
mod samples;
mod tokenize;

pub use read::Dataset;
pub use record::{Input, Record, Target};
#[cfg(test)]
pub(crate) use samples::Sample;
pub(crate) use samples::{Samples, TokenSequences};
pub(crate) use tokenize::Tokenization;
