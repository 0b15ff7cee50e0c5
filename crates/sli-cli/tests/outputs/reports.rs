//! run.json, profile.json, samples.jsonl and what the program prints.

use std::fs;

use serde_json::{Value, json};
use sli_tests::command::{json_lines, outcome, tree};

use crate::workplace;

fn read_json(path: std::path::PathBuf) -> Value {
    serde_json::from_slice(&fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn run_json_says_what_was_run() {
    let work = workplace("mixtral");
    let printed = work.run_records("out", "--logits top:2 --score");
    let report = read_json(work.path("out/run.json"));
    assert_eq!(printed["report"], report);
    for (key, value) in [
        ("model", json!(work.model())),
        ("architecture", json!("mixtral")),
        ("num_layers", json!(3)),
        ("num_samples", json!(2)),
        ("num_tokens", json!(20)),
        ("num_truncated", json!(0)),
        ("num_skipped", json!(0)),
        ("dtype", json!("f32")),
        ("device", json!("cpu")),
    ] {
        assert_eq!(report[key], value, "{key}");
    }
    assert!(report["family"].is_string() && report["versions"]["sli"].is_string());
    assert!(report["seconds"].as_f64().unwrap() > 0.0 && report["peak_memory"].as_u64().unwrap() > 0);

    let written: usize = tree(&work.path("out"))
        .iter()
        .filter(|(name, _)| name.as_os_str() != "run.json")
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert_eq!(report["bytes_written"], json!(written));
    let layers = report["layers"].as_array().unwrap();
    let names: Vec<_> = layers.iter().map(|layer| layer["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["embedding", "layer_0000", "layer_0001", "layer_0002", "final"]);
    let read: u64 = layers.iter().map(|layer| layer["bytes"].as_u64().unwrap()).sum();
    assert_eq!(report["bytes_read"], json!(read));
}

#[test]
fn profile_json_has_an_entry_per_stage() {
    let work = workplace("mixtral");
    work.run_records("out", "");
    let profile = read_json(work.path("out/profile.json"));
    assert_eq!(profile, read_json(work.path("out/run.json"))["layers"]);
    let layer = &profile[1];
    assert_eq!(layer["kind"], "attention + experts");
    for key in
        ["mean", "std", "rms", "abs_max", "kurtosis", "read_seconds", "compute_seconds", "write_seconds"]
    {
        assert!(layer[key].is_f64(), "{key}: {layer}");
    }
    assert_eq!(layer["router"]["tokens"].as_array().unwrap().len(), 5);
}

#[test]
fn samples_are_echoed_in_order() {
    let work = workplace("llama");
    let ids = [json!("first"), json!(7), json!({"book": [1, 2]}), Value::Null];
    let records: Vec<Value> =
        ids.iter().map(|id| json!({"id": id, "input_ids": [1, 2, 3, 4, 5, 6]})).collect();
    work.write("named.jsonl", json_lines(&records) + "{\"input_ids\": [5, 6]}\n{\"input_ids\": [5]}\n");
    outcome(&mut work.run("named.jsonl", "out", "--score --max-length 4 --quiet")).printed();
    let text = fs::read_to_string(work.path("out/samples.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], json!(index));
        assert_eq!(line["truncated"], json!(index < 4));
        assert_eq!(line["num_tokens"], json!([4, 4, 4, 4, 2, 1][index]));
    }
    for line in &lines[..5] {
        assert!(line["log_likelihood"].as_f64().unwrap() < 0.0 && line["perplexity"].as_f64().unwrap() > 1.0);
    }
    // Nothing of a single token is scored.
    assert_eq!((lines[5]["log_likelihood"].to_string().as_str(), lines[5].get("perplexity")), ("0.0", None));
    assert_eq!([&lines[0]["id"], &lines[1]["id"], &lines[2]["id"]], [&ids[0], &ids[1], &ids[2]]);
    assert!(lines[4].get("id").is_none());
    assert_eq!(read_json(work.path("out/run.json"))["num_truncated"], json!(4));

    work.write("plain.jsonl", json_lines(&records));
    outcome(&mut work.run("plain.jsonl", "plain", "--quiet")).printed();
    let line: Value = serde_json::from_str(
        fs::read_to_string(work.path("plain/samples.jsonl")).unwrap().lines().next().unwrap(),
    )
    .unwrap();
    assert!(line.get("log_likelihood").is_none() && line.get("perplexity").is_none());
}

#[test]
fn stdout_has_the_document_or_the_summary_or_nothing() {
    let work = workplace("llama");
    let document = work.run_records("json", "--score");
    assert_eq!((&document["num_samples"], &document["num_tokens"]), (&json!(2), &json!(20)));
    assert_eq!(document["samples"].as_array().unwrap().len(), 2);

    let quiet = outcome(&mut work.run("records.jsonl", "quiet", "--quiet"));
    assert_eq!((quiet.printed(), quiet.stderr.as_str()), ("", ""));

    let said = outcome(&mut work.run("records.jsonl", "said", "--score --logits top:3"));
    for phrase in
        ["2 samples (20 tokens)", "3 layers of llama", "Perplexity", "logits/", "scores/", "run.json"]
    {
        assert!(said.printed().contains(phrase), "no '{phrase}' in {}", said.stdout);
    }
    let lines: Vec<_> = said.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "the plan, and no progress line where stderr is no terminal: {lines:?}");
    assert!(lines[0].starts_with("Plan: 2 samples, 20 tokens, in chunks of up to "), "{lines:?}");
}

#[test]
fn only_what_was_asked_for_is_there() {
    let work = workplace("llama");
    let document = work.run_records("out", "--hidden-states none --no-stats");
    assert_eq!(document["num_layers"], json!(3));
    let names: Vec<_> =
        tree(&work.path("out")).into_iter().map(|(name, _)| name.display().to_string()).collect();
    assert_eq!(names, ["profile.json", "run.json", "samples.jsonl"]);
}
