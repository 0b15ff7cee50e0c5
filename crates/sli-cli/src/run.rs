//! `run`: one pass of a dataset through a model.

use std::sync::Arc;
use std::time::Duration;

use sli_core::{ByteSize, Result, SliError};
use sli_integrator::{
    CancelToken, Dataset, HiddenStates, HubOptions, Logits, RunOptions, RunResult, SampleLine,
    UniversalSliIntegrator,
};

use crate::arguments::{HubArguments, RunCommand, WorkArguments};
use crate::progress::{Progress, duration};
use crate::terminal::print_json;

/// Runs the command.
pub(crate) fn run(command: &RunCommand) -> Result<()> {
    if command.trust_remote_code {
        eprintln!("note: --trust-remote-code is not needed: models are native here, no code is run");
    }
    let mut builder = UniversalSliIntegrator::builder(&command.model)
        .output_dir(&command.output)
        .device(command.work.device)
        .hub(hub_options(&command.hub));
    if let Some(dir) = &command.activation_dir {
        builder = builder.activation_dir(dir);
    }
    let sli = builder.build()?;
    let dataset = Dataset::from_path(&command.dataset).text_field(&command.text_field);
    let mut options = RunOptions {
        fresh: command.fresh,
        skip_bad: command.skip_bad,
        strict: command.strict,
        commit_interval: Duration::from_secs_f64(command.commit_every),
        cancel: cancelled_by_signals()?,
        ..work_options(&command.work)
    };
    if !command.quiet {
        options.observer = Arc::new(Progress::new());
    }
    let result = sli.run_sli(&dataset, &options);
    let RunOptions { observer, hidden_states, logits, .. } = options;
    drop(observer); // clears the progress line
    let result = result?;
    if command.json {
        return print_json(&result);
    }
    if !command.quiet {
        print_summary(&result, &hidden_states, logits, command.work.memory);
    }
    Ok(())
}

/// What is computed and how, from the command line.
pub(crate) fn work_options(work: &WorkArguments) -> RunOptions {
    RunOptions {
        batch_size: work.batch_size,
        memory: work.memory,
        dtype: work.dtype,
        hidden_states: work.hidden_states.clone(),
        hidden_dtype: work.hidden_dtype,
        pool: work.pool,
        logits: work.logits,
        score: work.score,
        stats: work.stats || !work.no_stats,
        max_length: work.max_length,
        prefetch: work.prefetch,
        activations: work.activations,
        ..RunOptions::default()
    }
}

/// Hub options from the command line.
pub(crate) fn hub_options(arguments: &HubArguments) -> HubOptions {
    if arguments.offline {
        tracing::debug!("--offline: nothing is downloaded in any case");
    }
    HubOptions { revision: arguments.revision.clone(), cache_dir: arguments.cache_dir.clone() }
}

/// A token that SIGINT and SIGTERM cancel. A second signal ends the program at once.
fn cancelled_by_signals() -> Result<CancelToken> {
    let token = CancelToken::default();
    let seen = token.clone();
    let handler = move || {
        if seen.is_cancelled() {
            std::process::exit(130);
        }
        eprintln!("interrupted: finishing this chunk (once more to stop at once)");
        seen.cancel();
    };
    ctrlc::set_handler(handler).map_err(|e| SliError::Usage(format!("cannot watch for signals: {e}")))?;
    Ok(token)
}

/// What was done and where it lies, in a person's words.
pub(crate) fn print_summary(
    result: &RunResult,
    hidden_states: &HiddenStates,
    logits: Logits,
    memory: Option<ByteSize>,
) {
    let report = &result.report;
    let RunResult { num_samples, num_tokens, num_layers, .. } = result;
    let output = result.output_dir.display();
    if result.already_finished {
        println!("This run was finished before; its results lie in {output} (--fresh runs it again).");
    } else {
        let went_on = if result.resumed { ", going on with an interrupted run" } else { "" };
        println!(
            "{num_samples} samples ({num_tokens} tokens) went through {num_layers} layers of {} in {}{went_on}.",
            report.architecture,
            duration(report.seconds)
        );
    }
    let allowed = memory.map_or(String::new(), |memory| format!(" of {memory} allowed"));
    println!(
        "Read {} of weights in {} arithmetic on {}; activations in {}; memory peaked at {}{allowed}.",
        ByteSize(report.bytes_read),
        report.dtype,
        report.device,
        report.activations,
        ByteSize(report.peak_memory),
    );
    if let Some(speed) = &report.speed
        && !result.already_finished
        && !result.resumed
    {
        println!(
            "Foreseen: {}. {:.0} % of what disk and processor allow.",
            duration(speed.forecast.seconds),
            100.0 * speed.share_of_limit
        );
    }
    if report.num_truncated > 0 {
        println!("{} samples were cut to the maximal length.", report.num_truncated);
    }
    if report.num_skipped > 0 {
        println!("{} bad records were skipped.", report.num_skipped);
    }
    print_perplexities(&result.samples);
    println!("Results in {output}:");
    let line = |name: &str, what: &str| println!("  {name:<16} {what}");
    line("samples.jsonl", "a line per sample");
    if *hidden_states != HiddenStates::None {
        line("hidden/", &format!("hidden states ({hidden_states}), a row per token, with offsets"));
    }
    if logits != Logits::None && result.output_dir.join("logits").exists() {
        line("logits/", &format!("logits ({logits})"));
    }
    if result.output_dir.join("scores").exists() {
        line("scores/", "the log-likelihood of each token");
    }
    if result.output_dir.join("stats").exists() {
        line("stats/", "per channel: mean, variance, largest magnitude, second moment, by layer");
    }
    line("profile.json", "per layer: distribution, bytes, seconds");
    line("run.json", "all about this run");
}

fn print_perplexities(samples: &[SampleLine]) {
    let mut perplexities: Vec<f64> = samples.iter().filter_map(|sample| sample.perplexity).collect();
    if perplexities.is_empty() {
        return;
    }
    perplexities.sort_by(f64::total_cmp);
    let (low, high) = (perplexities[0], perplexities[perplexities.len() - 1]);
    let median = perplexities[perplexities.len() / 2];
    println!("Perplexity per sample: median {median:.2}, from {low:.2} to {high:.2}.");
}
