//! Run language models larger than memory, layer by layer.
#![allow(clippy::print_stdout, clippy::print_stderr)] // this is the program that talks to a person

mod arguments;
mod cache;
mod demo;
mod inspect;
mod inspect_layer;
mod listing;
mod plan;
mod progress;
mod run;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    terminal::hide_panics();
    let arguments = Arguments::parse();
    terminal::log_to_stderr(arguments.verbose);
    let result = match arguments.command {
        Command::Demo(command) => demo::demo(&command),
        Command::Run(command) => run::run(&command),
        Command::Plan(command) => plan::plan(&command),
        Command::Inspect(command) => inspect::inspect(&command),
        Command::Families(command) => listing::families(&command),
        Command::Models(command) => listing::models(&command),
        Command::Cache(command) => cache::cache(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => terminal::report(&error),
    }
}
