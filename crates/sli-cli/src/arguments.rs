//! The command line.
#![allow(rustdoc::broken_intra_doc_links)] // the comments are the help texts, brackets and all

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sli_core::ByteSize;
use sli_integrator::{ComputeDtype, Device, HiddenDtype, HiddenStates, Logits, Placement, Pooling};

/// Run language models larger than memory, layer by layer: the whole dataset goes through layer i while layer i + 1
/// is being read.
#[derive(Debug, Parser)]
#[command(name = "sli-cli", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Say more about what happens (twice for details)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A run on the small model inside this program: shows what a run gives, in seconds
    Demo(DemoCommand),
    /// One pass of a dataset through a model, layer by layer
    Run(Box<RunCommand>),
    /// What a run will read, write and hold in memory, and how long it takes on this machine; runs nothing
    Plan(Box<PlanCommand>),
    /// What a model is: family, sizes, experts, weight format, the resolved spec of a layer
    Inspect(InspectCommand),
    /// The families of models and their architectures
    Families(JsonFlag),
    /// Released models that are known to run
    Models(ModelsCommand),
    /// Activations that unfinished runs left on disk
    Cache(CacheCommand),
}

#[derive(Debug, Args)]
pub(crate) struct JsonFlag {
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoCommand {
    /// Where the model and the results go
    #[arg(long, value_name = "DIR", default_value = "profiles/sli_demo")]
    pub(crate) output: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// Show no progress
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsCommand {
    /// Only this family
    pub(crate) family: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectCommand {
    /// A directory with config.json and weights, or a hub id owner/name[@revision]
    pub(crate) model: String,
    /// Print the resolved spec of this layer, counted from zero
    #[arg(long, value_name = "N")]
    pub(crate) layer: Option<usize>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CacheCommand {
    #[command(subcommand)]
    pub(crate) action: CacheAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheAction {
    /// Unfinished runs below a directory, how far they are and what they take
    List(CacheArguments),
    /// Check that the activations of unfinished runs are whole
    Verify(CacheArguments),
    /// Remove the activations of unfinished runs
    Clear(CacheArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CacheArguments {
    /// Look below this directory
    #[arg(long, value_name = "DIR", default_value = "profiles")]
    pub(crate) output: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HubArguments {
    /// Use only what is on this machine
    #[arg(long)]
    pub(crate) offline: bool,
    /// Branch, tag or commit of a model named by hub id
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,
    /// Where downloaded shards are kept
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
}

/// What is computed and how, which decides what a run costs.
#[derive(Debug, Args)]
pub(crate) struct WorkArguments {
    /// Where activations wait between layers: auto, memory or disk
    #[arg(long, value_name = "PLACE", default_value_t)]
    pub(crate) activations: Placement,
    /// Samples per forward step [default: chosen by the plan]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) batch_size: Option<usize>,
    /// Ceiling on the process's resident memory [default: 80 % of what is available]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
    /// Where the arithmetic happens: cpu, cuda[:N] or ndarray
    #[arg(long, default_value_t)]
    pub(crate) device: Device,
    /// Arithmetic of the matrix products: f32, bf16 or auto (bf16 when the weights are stored so)
    #[arg(long, default_value_t)]
    pub(crate) dtype: ComputeDtype,
    /// Hidden states to keep: none, final, all, or layers like 0,5,-1,10..20
    #[arg(long, value_name = "LIST", default_value_t, allow_hyphen_values = true)]
    pub(crate) hidden_states: HiddenStates,
    /// How to write them: f32, f16 or bf16 [default: the dtype of the run]
    #[arg(long, value_name = "DTYPE")]
    pub(crate) hidden_dtype: Option<HiddenDtype>,
    /// Keep one vector per sample: none, mean, last or cls
    #[arg(long, default_value_t)]
    pub(crate) pool: Pooling,
    /// Logits to keep: none, top:K or full
    #[arg(long, default_value_t)]
    pub(crate) logits: Logits,
    /// Log-likelihood of each token given those before it (decoders), of the target (encoder-decoders)
    #[arg(long)]
    pub(crate) score: bool,
    /// Keep activation statistics per layer (the default)
    #[arg(long, overrides_with = "no_stats")]
    pub(crate) stats: bool,
    /// Keep no activation statistics
    #[arg(long)]
    pub(crate) no_stats: bool,
    /// Cut longer samples [default: the model's own limit]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) max_length: Option<usize>,
    /// Layers read ahead [default: chosen by the plan]
    #[arg(long, value_name = "N")]
    pub(crate) prefetch: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanCommand {
    /// A directory with config.json and weights, or a hub id owner/name[@revision]
    pub(crate) model: String,
    /// Plan for this many tokens [default: 4096]
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "dataset")]
    pub(crate) tokens: Option<usize>,
    /// Tokens of each sample [default: 512, or the model's own limit]
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "dataset")]
    pub(crate) sample_length: Option<usize>,
    /// Plan for this dataset
    #[arg(long, value_name = "FILE")]
    pub(crate) dataset: Option<PathBuf>,
    /// The field of a record that holds its text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub(crate) text_field: String,
    #[command(flatten)]
    pub(crate) work: WorkArguments,
    /// Measure this machine again (what was measured is kept for a week)
    #[arg(long)]
    pub(crate) measure: bool,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunCommand {
    /// A directory with config.json and weights, or a hub id owner/name[@revision]
    pub(crate) model: String,
    /// A .jsonl, .json (array) or .txt (a sample per line) file; - is JSON lines on standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) dataset: PathBuf,
    /// The field of a record that holds its text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub(crate) text_field: String,
    /// Where results go
    #[arg(long, value_name = "DIR", default_value = "profiles/sli_profile")]
    pub(crate) output: PathBuf,
    /// Where activations wait when they do not fit into memory [default: OUTPUT/.activations]
    #[arg(long, value_name = "DIR")]
    pub(crate) activation_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) work: WorkArguments,
    /// Ignore an unfinished run in OUTPUT and replace a finished one
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Count and skip records that cannot be used
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Refuse a config.json with keys that are not understood
    #[arg(long)]
    pub(crate) strict: bool,
    /// Seconds of work that a crash may cost when activations wait in memory, half as many more near the end, and at least
    /// 20 times what saving them takes (but 0: save after every layer); on disk, chunks are committed anyway
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    pub(crate) commit_every: f64,
    #[command(flatten)]
    pub(crate) hub: HubArguments,
    /// Accepted for convenience: models are native here, and no code from a repository is ever run
    #[arg(long)]
    pub(crate) trust_remote_code: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// Show no progress
    #[arg(long)]
    pub(crate) quiet: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("it must be a whole number, one or more".into()),
        Ok(number) => Ok(number),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86400.0).contains(&seconds) => Ok(seconds),
        _ => Err("it must be a number of seconds, at most a day".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_are_checked_before_anything_happens() {
        let parse = |options: &str| {
            Arguments::try_parse_from(
                ["sli-cli", "run", "m", "--dataset", "d"].into_iter().chain(options.split(' ')),
            )
        };
        assert!(parse("--memory 8GiB --hidden-states 0,-1 --logits top:5 --device cuda:1").is_ok());
        for bad in
            ["--memory lots", "--hidden-states 1..", "--logits top:0", "--device tpu", "--batch-size 0"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
