//! `demo`: a run on the small model inside this program.

use std::path::Path;
use std::sync::Arc;

use sli_core::{Result, SliError};
use sli_integrator::{Dataset, HiddenStates, Logits, RunOptions, UniversalSliIntegrator};

use crate::arguments::DemoCommand;
use crate::progress::{Progress, duration};
use crate::terminal::print_json;

/// The files of the model, trained by `demo/train.py`.
const MODEL: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../demo/model/config.json")),
    ("model.safetensors", include_bytes!("../demo/model/model.safetensors")),
    ("tokenizer.json", include_bytes!("../demo/model/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../demo/model/tokenizer_config.json")),
];
const SAMPLES: &[u8] = include_bytes!("../demo/samples.jsonl");

/// Runs the command.
pub(crate) fn demo(command: &DemoCommand) -> Result<()> {
    let model = command.output.join("model");
    std::fs::create_dir_all(&model).map_err(SliError::io("cannot create", &model))?;
    for (name, bytes) in MODEL {
        write(&model.join(name), bytes)?;
    }
    let samples = command.output.join("samples_in.jsonl");
    write(&samples, SAMPLES)?;

    let sli =
        UniversalSliIntegrator::builder(model.display().to_string()).output_dir(&command.output).build()?;
    let mut options = RunOptions {
        hidden_states: HiddenStates::All,
        logits: Logits::Top(5),
        score: true,
        fresh: true,
        ..RunOptions::default()
    };
    if !command.quiet {
        options.observer = Arc::new(Progress::new());
    }
    let result = sli.run_sli(&Dataset::from_path(&samples), &options)?;
    drop(options); // clears the progress line
    if command.json {
        return print_json(&result);
    }
    let (summary, output) = (sli.model_summary(), command.output.display());
    println!(
        "A {} of {} parameters, trained on the texts of this project: {} samples, {} tokens, {} layers in {}.\n",
        summary.architecture,
        summary.parameters,
        result.num_samples,
        result.num_tokens,
        result.num_layers,
        duration(result.report.seconds),
    );
    println!("{:<40} {:>6} {:>11}", "sample", "tokens", "perplexity");
    for sample in &result.samples {
        let id = sample.id.as_ref().and_then(|id| id.as_str()).unwrap_or("-");
        println!("{id:<40} {:>6} {:>11.1}", sample.num_tokens, sample.perplexity.unwrap_or(f64::NAN));
    }
    println!(
        "\nThe lower the perplexity, the better the model foresaw the text (guessing among its {} tokens would give \
         {}).",
        summary.vocab_size, summary.vocab_size
    );
    println!(
        "Hidden states of every layer lie in {output}/hidden, the best five logits of each token in {output}/logits,"
    );
    println!("statistics of the activations in {output}/stats. The same with your own model and texts:\n");
    println!("    sli-cli run MODEL_DIR --dataset texts.jsonl --score --output {output}_mine");
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(SliError::io("cannot write", path))
}
