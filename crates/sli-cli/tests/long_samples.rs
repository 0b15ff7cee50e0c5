//! Samples far longer than usual: memory grows with their tokens, not with the square of them, and the result is that
//! of the direct computation.

use serde_json::{Value, json};
use sli_tests::command::{Workplace, outcome};
use sli_tests::tensors::read_folder;

const LONG: usize = 16_384;
/// What the direct computation can hold: it makes the whole matrix of scores.
const SHORT: usize = 1_536;

/// Token ids without a pattern that a window could hide (Knuth's multiplicative hashing).
fn ids(count: usize) -> Vec<u64> {
    (0..count as u64).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % 96).collect()
}

fn workplace() -> Workplace {
    let work = Workplace::new(env!("CARGO_BIN_EXE_sli-cli"), "llama");
    let path = work.model().join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = json!(LONG);
    std::fs::write(&path, config.to_string()).unwrap();
    work
}

#[test]
fn memory_stays_below_the_square_of_the_length() {
    let work = workplace();
    let run = |tokens: usize, output: &str, options: &str| {
        work.write("sample.jsonl", json!({ "input_ids": ids(tokens) }).to_string());
        outcome(&mut work.run("sample.jsonl", output, &format!("--dtype f32 --json {options}"))).json();
        let report = std::fs::read_to_string(work.path(output).join("run.json")).unwrap();
        let folder = work.path(output).join("hidden/final");
        let hidden = read_folder(&folder, "hidden_states");
        (serde_json::from_str::<Value>(&report).unwrap(), hidden)
    };
    let (report, long) = run(LONG, "long", "--memory 1GiB");
    assert_eq!(report["num_tokens"], json!(LONG));
    assert_eq!(report["num_truncated"], json!(0));
    // The scores of a single head would fill it.
    assert!(LONG * LONG * size_of::<f32>() >= 1 << 30);
    let peak = report["peak_memory"].as_u64().unwrap();
    assert!(peak < 512 << 20, "{peak} bytes");

    // Causal: the first tokens of a long sample are a short sample.
    let (_, short) = run(SHORT, "short", "--device ndarray");
    let largest = short.values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let differences = short.values.iter().zip(&long.values).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0, f64::max);
    assert!(worst <= 2e-5 * largest, "off by {worst}, largest value {largest}");
}
