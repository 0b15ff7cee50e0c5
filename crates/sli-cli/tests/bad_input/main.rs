//! What a user can get wrong: each ends in one error that names it, and leaves nothing behind.

mod config;
mod dataset;
mod model;
mod request;

use sli_tests::command::{Workplace, json_lines, outcome};

fn workplace(case: &str) -> Workplace {
    let work = Workplace::new(env!("CARGO_BIN_EXE_sli-cli"), case);
    work.write("records.jsonl", json_lines(&work.records));
    work
}

/// Runs the records with these options, expects exit status 1 and no output directory, and returns the complaint.
fn refused(work: &Workplace, options: &str) -> String {
    refused_dataset(work, "records.jsonl", options)
}

/// As [`refused`], for another dataset.
fn refused_dataset(work: &Workplace, dataset: &str, options: &str) -> String {
    let complaint = outcome(&mut work.run(dataset, "out", options)).complaint(1).to_string();
    assert!(!work.path("out").exists(), "an output directory is left: {complaint}");
    complaint
}

/// Does a text contain all of these? Says which not.
#[track_caller]
fn assert_mentions(text: &str, phrases: &[&str]) {
    for phrase in phrases {
        assert!(text.contains(phrase), "no '{phrase}' in: {text}");
    }
}
