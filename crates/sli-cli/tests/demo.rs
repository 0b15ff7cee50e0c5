//! The demo: a first run without a download, whose scores are those of transformers.

use serde_json::Value;
use sli_tests::command::{Workplace, outcome};
use sli_tests::tensors::read_folder;

/// What `demo/expect.py` computed.
const EXPECTED: &str = include_str!("../demo/expected.json");

fn workplace() -> Workplace {
    Workplace::new(env!("CARGO_BIN_EXE_sli-cli"), "llama")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn scores_are_those_of_transformers() {
    let work = workplace();
    let result = outcome(&mut work.command("demo --output demo --json")).json();
    let samples = result["samples"].as_array().unwrap();
    let expected: Vec<Value> = serde_json::from_str(EXPECTED).unwrap();
    assert_eq!(samples.len(), expected.len());
    for (sample, expected) in samples.iter().zip(&expected) {
        assert_eq!((&sample["id"], &sample["num_tokens"]), (&expected["id"], &expected["num_tokens"]));
        let (found, expected) = (number(&sample["log_likelihood"]), number(&expected["log_likelihood"]));
        // The weights are bf16, and so are the products by default; transformers computed in f32.
        assert!((found / expected - 1.0).abs() < 0.01, "{}: {found} instead of {expected}", sample["id"]);
    }

    let perplexity =
        |id: &str| samples.iter().find(|sample| sample["id"] == id).map(|s| number(&s["perplexity"]));
    let ids = samples.iter().map(|sample| sample["id"].as_str().unwrap());
    let pairs: Vec<_> =
        ids.filter_map(|id| Some((perplexity(id.strip_suffix(", shuffled")?)?, perplexity(id)?))).collect();
    assert_eq!(pairs.len(), 5);
    for (plain, shuffled) in pairs {
        assert!(shuffled >= 4.0 * plain, "shuffled {shuffled}, in order {plain}");
    }

    let tokens = number(&result["num_tokens"]) as usize;
    for name in ["embedding", "layer_0000", "layer_0001", "layer_0002", "layer_0003", "final"] {
        let hidden = read_folder(&work.path("demo/hidden").join(name), "hidden_states");
        assert_eq!(hidden.shape, [tokens, 96], "{name}");
    }
    assert_eq!(read_folder(&work.path("demo/logits"), "indices").shape, [tokens, 5]);
}

#[test]
fn in_f32_the_scores_are_closer_still() {
    let work = workplace();
    outcome(&mut work.command("demo --output demo --quiet")).printed();
    // What the demo leaves is a model directory and a dataset like any other.
    let arguments = "run demo/model --dataset demo/samples_in.jsonl --output f32 --dtype f32 --score --json";
    let result = outcome(&mut work.command(arguments)).json();
    let expected: Vec<Value> = serde_json::from_str(EXPECTED).unwrap();
    for (sample, expected) in result["samples"].as_array().unwrap().iter().zip(&expected) {
        let (found, expected) = (number(&sample["log_likelihood"]), number(&expected["log_likelihood"]));
        assert!((found / expected - 1.0).abs() < 1e-5, "{}: {found} instead of {expected}", sample["id"]);
    }
}

#[test]
fn the_table_names_every_sample() {
    let work = workplace();
    let run = || outcome(&mut work.command("demo --output demo"));
    let printed = run();
    let expected: Vec<Value> = serde_json::from_str(EXPECTED).unwrap();
    for sample in &expected {
        let id = sample["id"].as_str().unwrap();
        let line = printed.printed().lines().find(|line| line.starts_with(&format!("{id} ")));
        let line = line.unwrap_or_else(|| panic!("no line for {id} in {}", printed.stdout));
        let words: Vec<_> = line.split_whitespace().rev().collect();
        assert_eq!(words[1].parse::<u64>().ok(), sample["num_tokens"].as_u64(), "{line}");
        assert!(words[0].parse::<f64>().unwrap() > 1.0, "{line}");
    }
    for phrase in ["parameters", "perplexity", "demo/hidden", "sli-cli run"] {
        assert!(printed.stdout.contains(phrase), "no '{phrase}' in {}", printed.stdout);
    }
    assert_eq!(run().status, Some(0), "it can be run again");
}
