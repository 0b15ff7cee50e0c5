//! Datasets that are missing, empty, or hold records that cannot be used.

use serde_json::json;
use sli_tests::command::{json_lines, outcome, outcome_with_input};

use crate::{assert_mentions, refused_dataset, workplace};

/// A bad record for llama (96 tokens) and what has to be said of it.
const BAD: [(&str, &str); 13] = [
    (r#"{"input_ids": [1, 2"#, "not JSON"),
    (r#"not json"#, "not JSON"),
    (r#"[1, 2]"#, "not an array"),
    (r#"{"title": "x"}"#, "neither 'text' nor 'input_ids' (its fields: title)"),
    (r#"{"input_ids": []}"#, "'input_ids' is empty"),
    (r#"{"input_ids": 5}"#, "must be an array of integers"),
    (r#"{"input_ids": [1, 96]}"#, "token id 96 is out of range: the model has 96"),
    (r#"{"input_ids": [1, 4294967296]}"#, "4294967296"),
    (r#"{"input_ids": [1, -1]}"#, "-1"),
    (r#"{"input_ids": [1, 2.5]}"#, "2.5"),
    (r#"{"input_ids": [1, 2], "position_ids": [0]}"#, "1 position_ids for 2 input_ids"),
    (r#"{"input_ids": [1, 2], "token_type_ids": [0, 0]}"#, "no token types"),
    (r#"{"input_ids": [1, 2], "target": "x"}"#, "no decoder"),
];

#[test]
fn a_bad_record_is_named_by_its_line() {
    let work = workplace("llama");
    for (bad, phrase) in BAD {
        // Blank lines count.
        let text = format!("{}\n{bad}\n{}", json_lines(&work.records), json_lines(&work.records));
        work.write("bad.jsonl", text);
        assert_mentions(
            &refused_dataset(&work, "bad.jsonl", ""),
            &["bad.jsonl, line 4: ", phrase, "--skip-bad"],
        );
    }
}

#[test]
fn bad_records_are_skipped_and_counted_on_request() {
    let work = workplace("llama");
    let bad: String = BAD.iter().map(|(record, _)| format!("{record}\n")).collect();
    work.write("bad.jsonl", format!("{bad}{}{bad}", json_lines(&work.records)));
    let result = outcome(work.run("bad.jsonl", "skipped", "--skip-bad").arg("--json")).json();
    assert_eq!(result["report"]["num_skipped"], json!(2 * BAD.len()));
    assert_eq!(result["num_samples"], json!(work.records.len()));

    let good = work.run_records("good", "");
    assert_eq!(good["samples"], result["samples"]);
    let part = "hidden/final/part-00000.safetensors";
    let bytes = |output: &str| std::fs::read(work.path(output).join(part)).unwrap();
    assert_eq!(bytes("good"), bytes("skipped"));

    work.write("hopeless.jsonl", bad);
    assert_mentions(
        &refused_dataset(&work, "hopeless.jsonl", "--skip-bad"),
        &["no sample is left after 13 bad ones"],
    );
}

#[test]
fn bytes_that_are_no_text_are_a_bad_record() {
    let work = workplace("llama");
    work.write("bytes.jsonl", b"{\"input_ids\": [1, 2]}\n\xff\xfe\n");
    assert_mentions(&refused_dataset(&work, "bytes.jsonl", ""), &["bytes.jsonl, line 2", "UTF-8"]);
}

#[test]
fn an_empty_dataset() {
    let work = workplace("llama");
    for (name, text) in
        [("none.jsonl", ""), ("blank.jsonl", "\n\n  \n"), ("none.json", "[]"), ("none.txt", "")]
    {
        work.write(name, text);
        assert_mentions(&refused_dataset(&work, name, ""), &[name, "empty"]);
    }
}

#[test]
fn a_file_that_cannot_be_a_dataset() {
    let work = workplace("llama");
    assert_mentions(&refused_dataset(&work, "nowhere.jsonl", ""), &["nowhere.jsonl"]);
    std::fs::create_dir(work.path("folder.jsonl")).unwrap();
    assert_mentions(&refused_dataset(&work, "folder.jsonl", ""), &["folder.jsonl"]);
    for name in ["records.xml", "records"] {
        work.write(name, json_lines(&work.records));
        assert_mentions(&refused_dataset(&work, name, ""), &[name, ".jsonl"]);
    }
    work.write("object.json", r#"{"input_ids": [1]}"#);
    assert_mentions(&refused_dataset(&work, "object.json", ""), &["object.json", "array"]);
    work.write("broken.json", "[{");
    assert_mentions(&refused_dataset(&work, "broken.json", ""), &["broken.json", "not JSON"]);
}

#[test]
fn standard_input_is_named_like_a_file() {
    let work = workplace("llama");
    let complaint = |input| outcome_with_input(&mut work.run("-", "out", ""), input).complaint(1).to_string();
    assert_mentions(
        &complaint("{\"input_ids\": [1]}\n{\"input_ids\": [99]}\n"),
        &["standard input, line 2", "99"],
    );
    assert_mentions(&complaint(""), &["standard input", "empty"]);
    assert!(!work.path("out").exists());
}

#[test]
fn text_needs_a_tokenizer() {
    let work = workplace("llama");
    work.write("text.txt", "Hello.\n");
    assert_mentions(&refused_dataset(&work, "text.txt", ""), &["tokenizer.json", "input_ids"]);
    std::fs::write(work.model().join("tokenizer.json"), "{\"version\": ").unwrap();
    assert_mentions(&refused_dataset(&work, "text.txt", ""), &["tokenizer.json"]);
    // Another field may hold the text.
    work.write("body.jsonl", r#"{"body": "Hello."}"#);
    assert_mentions(
        &refused_dataset(&work, "body.jsonl", ""),
        &["neither 'text' nor 'input_ids' (its fields: body)"],
    );
    assert_mentions(&refused_dataset(&work, "body.jsonl", "--text-field body"), &["tokenizer.json"]);
}

#[test]
fn positions_and_types_have_limits() {
    let work = workplace("bert");
    work.write("types.jsonl", r#"{"input_ids": [1, 2], "token_type_ids": [0, 2]}"#);
    assert_mentions(
        &refused_dataset(&work, "types.jsonl", ""),
        &["token type 2 is out of range: the model has 2"],
    );
    work.write("positions.jsonl", r#"{"input_ids": [1, 2], "position_ids": [0, 16]}"#);
    assert_mentions(
        &refused_dataset(&work, "positions.jsonl", ""),
        &["position 16 is out of range: the model has 16"],
    );
}

#[test]
fn targets_are_for_all_records_or_for_none() {
    let work = workplace("t5_relu");
    work.write("some.jsonl", "{\"input_ids\": [1], \"decoder_input_ids\": [0, 1]}\n{\"input_ids\": [1]}\n");
    assert_mentions(&refused_dataset(&work, "some.jsonl", ""), &["1 of 2 records have a target"]);
    work.write("range.jsonl", r#"{"input_ids": [1], "decoder_input_ids": [0, 96]}"#);
    assert_mentions(&refused_dataset(&work, "range.jsonl", ""), &["decoder token id 96 is out of range"]);
    work.write("none.jsonl", r#"{"input_ids": [1]}"#);
    assert_mentions(&refused_dataset(&work, "none.jsonl", "--score"), &["--score", "'target'"]);
}
