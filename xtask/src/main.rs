//! The project's own tasks: `cargo xtask TASK`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // tasks talk to the person who runs them

mod bench;
mod golden;
mod synth;
mod taxonomy;
mod tidy;

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

/// What every task returns.
type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write plans/architecture_taxonomy.json and docs/taxonomy.md from the registry
    Taxonomy {
        /// Change nothing; fail when they are stale
        #[arg(long)]
        check: bool,
    },
    /// Make golden cases with transformers, in a virtual environment of their own
    Golden {
        /// Names of cases, or --all, or --list
        #[arg(required = true, num_args = 1.., allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write a checkpoint with random weights in the shape of a released model
    Synth {
        #[arg(long, help = format!("The shape: {}", synth::SHAPES))]
        shape: String,
        /// Write zeros, in files that are holes and take no room on disk
        #[arg(long)]
        sparse: bool,
        /// Where to write it
        directory: PathBuf,
    },
    /// Compare with other programs
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Check what must not be: dependencies upwards, names of architectures where they do not belong, and the like
    Tidy,
    /// Type-check the code for NVIDIA GPUs
    CheckCuda,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Taxonomy { check } => taxonomy::taxonomy(check),
        Task::Golden { arguments } => golden::golden(&arguments),
        Task::Synth { shape, sparse, directory } => synth::synth(&shape, sparse, &directory),
        Task::Bench { bench } => bench::bench(bench),
        Task::Tidy => tidy::tidy(),
        Task::CheckCuda => {
            succeed(Command::new("cargo").args(["check", "--package", "sli-cli", "--features", "cuda"]))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the workspace.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a command that has to succeed.
fn succeed(command: &mut Command) -> Result {
    let status = command.current_dir(root()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}").into()) }
}
