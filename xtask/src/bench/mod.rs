//! `cargo xtask bench WHAT`: comparisons with other programs.

mod cgroup;
mod chart;
mod curves;
mod models;
mod torch;

use std::path::PathBuf;

use clap::Subcommand;

use crate::{Result, root};

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Whole runs against other programs that score a dataset with a model larger than memory
    Models {
        /// Where checkpoints and results go [default: target/bench]
        #[arg(long)]
        data: Option<PathBuf>,
        /// A python that has torch, transformers, and the peers (accelerate, airllm)
        #[arg(long, default_value = "python3")]
        python: String,
        /// Turns of each program; the median counts
        #[arg(long, default_value_t = 5)]
        repeats: usize,
        /// Only these peers
        #[arg(long, value_delimiter = ',')]
        peers: Vec<String>,
        /// Only cases whose names contain one of these, as in `tinyllama-1.1b 16x32`
        words: Vec<String>,
    },
    /// How time grows with tokens and with the model, drawn as docs/time-by-tokens.svg and docs/time-by-size.svg
    Curves {
        /// Where checkpoints go [default: target/bench]
        #[arg(long)]
        data: Option<PathBuf>,
        /// Runs of each point; the median counts
        #[arg(long, default_value_t = 3)]
        repeats: usize,
        /// Only these shapes, as in `llama-6.7b`
        words: Vec<String>,
    },
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
        Bench::Models { data, python, repeats, peers, words } => {
            let data = data.unwrap_or_else(|| root().join("target/bench"));
            models::models(&models::Options { data, python, repeats, words, peers })
        }
        Bench::Curves { data, repeats, words } => {
            let data = data.unwrap_or_else(|| root().join("target/bench"));
            curves::curves(&models::Options {
                data,
                python: String::new(),
                repeats,
                words,
                peers: Vec::new(),
            })
        }
        Bench::Torch { python, threads, words } => torch::torch(&python, threads, &words),
    }
}
