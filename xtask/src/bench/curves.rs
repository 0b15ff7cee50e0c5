//! How the time of a run grows with its tokens and with its model, at fixed memory.

use super::chart::{Curve, chart};
use super::models::{Bench, Case, Options, median};
use crate::{Result, root};

/// Tokens of a sample.
const LENGTH: usize = 64;
/// From one sample to 65,536 tokens.
const SAMPLES: [usize; 6] = [1, 4, 16, 64, 256, 1024];
/// Models from small to large, each with 512 tokens.
const SHAPES: [&str; 4] = ["tinyllama-1.1b", "llama-3b", "llama-6.7b", "llama-13b"];
const TOKENS: usize = 512;

/// Runs both series, prints a table of each, and draws them as `docs/time-by-tokens.svg` and `docs/time-by-size.svg`.
pub(super) fn curves(options: &Options) -> Result {
    let by_tokens =
        SAMPLES.map(|samples| (samples * LENGTH, Case::scored("tinyllama-1.1b", samples, LENGTH)));
    series(options, "tokens", "1.1B parameters in bf16, 1 GB of memory", &by_tokens)?;
    let by_size = SHAPES.map(|shape| (0, Case::scored(shape, TOKENS / LENGTH, LENGTH)));
    series(options, "size", "512 tokens, 1 GB of memory", &by_size)
}

/// One series: `x` is tokens, or where it is zero the gigabytes that the case reads.
fn series(options: &Options, name: &str, title: &str, cases: &[(usize, Case)]) -> Result {
    let x_name = if name == "tokens" { "tokens" } else { "GB of weights" };
    println!(
        "\n| {x_name} | seconds (least to most) | foreseen | limit | chunk, tokens | peak of the group, GB |"
    );
    println!("|---|---|---|---|---|---|");
    let (mut measured, mut foreseen, mut limits) = (Vec::new(), Vec::new(), Vec::new());
    let wanted =
        |case: &Case| options.words.is_empty() || options.words.iter().any(|word| case.shape == word);
    for (tokens, case) in cases.iter().filter(|(_, case)| wanted(case)) {
        let bench = Bench::new(case, format!("{} {}x{}", case.shape, case.samples, case.length), options)?;
        let plan = bench.plan()?;
        let number = |name: &str| plan["forecast"][name].as_f64().ok_or_else(|| format!("no {name}"));
        let runs = (0..options.repeats).map(|_| bench.ours()).collect::<Result<Vec<_>>>()?;
        let mut seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let peak = runs.iter().map(|run| run.peak).max().unwrap_or(0) as f64 / 1e9;
        let gigabytes = plan["forecast"]["work"]["weight_bytes"].as_f64().unwrap_or(0.0) / 1e9;
        let (x, shown) = match tokens {
            0 => (gigabytes, format!("{gigabytes:.2}")),
            tokens => (*tokens as f64, tokens.to_string()),
        };
        let (middle, least, most) = (median(seconds.clone()), seconds[0], seconds[seconds.len() - 1]);
        let (expected, limit) = (number("seconds")?, number("limit_seconds")?);
        let chunk = &plan["memory"]["chunk_tokens"];
        println!(
            "| {shown} | {middle:.2} ({least:.2} to {most:.2}) | {expected:.2} | {limit:.2} | {chunk} | {peak:.2} |"
        );
        measured.push((x, middle));
        foreseen.push((x, expected));
        limits.push((x, limit));
    }
    let curves = [
        Curve { label: "measured", color: "#06c", points: measured },
        Curve { label: "foreseen", color: "#c60", points: foreseen },
        Curve { label: "limit", color: "#888", points: limits },
    ];
    let path = root().join(format!("docs/time-by-{name}.svg"));
    std::fs::write(&path, chart(title, x_name, "seconds", &curves))?;
    println!("\nDrawn as {}", path.display());
    Ok(())
}
