//! The forms that a dataset may have: the same samples give the same results.

use serde_json::{Value, json};
use sli_tests::command::{json_lines, outcome, outcome_with_input, tree};

use crate::workplace;

#[test]
fn json_lines_json_arrays_and_standard_input_are_the_same() {
    let work = workplace("llama");
    work.run_records("lines", "--logits full");
    let lines = json_lines(&work.records);
    work.write("records.json", Value::Array(work.records.clone()).to_string());
    work.write("records.ndjson", format!("\n{}\r\n\n", lines.trim_end()));
    outcome(&mut work.run("records.json", "array", "--logits full")).printed();
    outcome(&mut work.run("records.ndjson", "blanks", "--logits full")).printed();
    outcome_with_input(&mut work.run("-", "stdin", "--logits full"), &lines).printed();

    let results = |output: &str| {
        let mut files = tree(&work.path(output));
        files.retain(|(name, _)| name.extension().is_some_and(|e| e == "safetensors" || e == "jsonl"));
        files
    };
    let expected = results("lines");
    assert!(expected.len() > 5);
    for output in ["array", "blanks", "stdin"] {
        assert!(results(output) == expected, "{output} differs");
    }
}

#[test]
fn text_files_and_text_fields_are_the_same() {
    let work = workplace("llama");
    let texts = ["The evening was dark.", "Nora lit the lamp, and slept — \"well\".", "a"];
    work.write("texts.txt", texts.join("\n"));
    work.write("body.jsonl", json_lines(&texts.map(|text| json!({"body": text, "id": 3}))));
    let run = |dataset: &str, output: &str, options: &str| {
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");
        let arguments = format!("run {model} --dataset {dataset} --output {output} --score --json {options}");
        outcome(&mut work.command(&arguments)).json()
    };
    let (from_text, from_field) = (run("texts.txt", "a", ""), run("body.jsonl", "b", "--text-field body"));
    assert_eq!(from_text["num_samples"], json!(3));
    assert!(from_text["samples"][2]["num_tokens"].as_u64().unwrap() >= 2, "a start token and the text");
    for sample in 0..3 {
        for key in ["num_tokens", "log_likelihood", "perplexity"] {
            assert_eq!(from_text["samples"][sample][key], from_field["samples"][sample][key]);
        }
    }
    let hidden =
        |output: &str| std::fs::read(work.path(output).join("hidden/final/part-00000.safetensors")).unwrap();
    assert_eq!(hidden("a"), hidden("b"));
}
