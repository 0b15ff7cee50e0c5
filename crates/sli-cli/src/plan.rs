//! `plan`: what a run will cost, without running it.

use std::fmt::Write;

use sli_core::{ByteSize, Result};
use sli_integrator::{Dataset, Forecast, Measuring, RunPlan, UniversalSliIntegrator};

use crate::arguments::PlanCommand;
use crate::progress::duration;
use crate::run::{hub_options, work_options};
use crate::terminal::print_json;

/// Tokens that are planned for when nobody says how many.
const TOKENS: usize = 4096;
/// And tokens of each sample.
const SAMPLE_LENGTH: usize = 512;

/// Runs the command.
pub(crate) fn plan(command: &PlanCommand) -> Result<()> {
    let sli = UniversalSliIntegrator::builder(&command.model)
        .device(command.work.device)
        .hub(hub_options(&command.hub))
        .build()?;
    let options = work_options(&command.work);
    let measuring = if command.measure { Measuring::Again } else { Measuring::Missing };
    let plan = match &command.dataset {
        Some(path) => {
            sli.plan(&Dataset::from_path(path).text_field(&command.text_field), &options, measuring)?
        }
        None => {
            let tokens = command.tokens.unwrap_or(TOKENS);
            let longest = sli.model_summary().max_length.unwrap_or(SAMPLE_LENGTH).min(SAMPLE_LENGTH);
            let length = command.sample_length.unwrap_or(longest).min(tokens);
            sli.plan_tokens(tokens, length, &options, measuring)?
        }
    };
    if command.json {
        return print_json(&plan);
    }
    println!("{}", describe(&plan));
    println!("Memory, {} at most:", plan.memory.memory);
    for part in plan.memory.parts.iter().filter(|part| part.bytes > 0) {
        println!("  {:>9}  {}", ByteSize(part.bytes).to_string(), part.name);
    }
    if let Some(forecast) = &plan.forecast {
        print_times(forecast);
    }
    Ok(())
}

/// A few lines with what counts: the work, the memory, the time and what it is bound by.
pub(crate) fn describe(plan: &RunPlan) -> String {
    let (memory, mut text) = (&plan.memory, String::new());
    let place = if memory.spilled { "on disk" } else { "in memory" };
    let abreast = match memory.chunks_abreast {
        1 => String::new(),
        chunks => format!(", {chunks} side by side"),
    };
    let _ = write!(
        text,
        "Plan: {} samples, {} tokens, in chunks of up to {}{abreast}; activations {place}; at most {} of {} in memory",
        plan.samples,
        plan.tokens,
        memory.chunk_tokens,
        ByteSize(memory.peak()),
        memory.memory,
    );
    if let Some(forecast) = &plan.forecast {
        let work = &forecast.work;
        let _ = write!(
            text,
            "\n      reads {}, writes {}, {:.2} TFLOP: about {}, bound by {}",
            ByteSize(work.weight_bytes + work.spill_bytes / 2),
            ByteSize(work.output_bytes + work.spill_bytes / 2),
            work.flops() as f64 / 1e12,
            duration(forecast.seconds),
            forecast.bound,
        );
    }
    text
}

fn print_times(forecast: &Forecast) {
    let (machine, work) = (&forecast.machine, &forecast.work);
    println!("Time, the parts beside each other:");
    let line = |seconds: f64, what: String| println!("  {:>9}  {what}", duration(seconds));
    line(
        forecast.disk_seconds,
        format!("reading {} of weights at {:.2} GB/s", ByteSize(work.weight_bytes), machine.disk / 1e9),
    );
    line(
        forecast.compute_seconds,
        format!(
            "computing {:.2} TFLOP, products at up to {:.0} GFLOP/s",
            work.flops() as f64 / 1e12,
            machine.compute.peak() / 1e9
        ),
    );
    if forecast.prepare_seconds >= 0.1 {
        line(forecast.prepare_seconds, "before them: reading and tokenizing the records".into());
    }
    let moved = ByteSize(work.spill_bytes + work.output_bytes);
    line(forecast.spill_seconds, format!("moving {moved} of activations and outputs"));
    line(forecast.seconds, format!("all together, bound by {}", forecast.bound));
}
