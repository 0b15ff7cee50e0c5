//! `cargo xtask bench WHAT`: comparisons with other programs.

mod torch;

use clap::Subcommand;

use crate::Result;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The kernels against torch: the same shapes, two threads each, in turns
    Torch {
        /// A python that has torch
        #[arg(long, default_value = "python3")]
        python: String,
        /// Threads of each
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Only cases whose names contain one of these
        words: Vec<String>,
    },
}

pub(crate) fn bench(bench: Bench) -> Result {
    match bench {
        Bench::Torch { python, threads, words } => torch::torch(&python, threads, &words),
    }
}
