//! Route first, read second: an expert that no token chose is never read, be it of four or of a trillion parameters.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sli_tests::command::{Workplace, json_lines, outcome};
use sli_tests::tensors::read_file;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sli-cli");

/// Direct reads begin at multiples of this.
const BLOCK: u64 = 4096;

fn report(output: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(output.join("run.json")).unwrap()).unwrap()
}

/// Experts of each layer that some token chose, from the statistics.
fn chosen_experts(output: &Path, layers: usize) -> Vec<usize> {
    let chosen = |layer| {
        let file = output.join(format!("stats/layer_{layer:04}.safetensors"));
        read_file(&file)["expert_tokens"].values.iter().filter(|tokens| **tokens > 0.0).count()
    };
    (0..layers).map(chosen).collect()
}

#[test]
fn only_chosen_experts_are_read() {
    let work = Workplace::new(PROGRAM, "mixtral");
    let all = work.records[0]["input_ids"].as_array().unwrap();
    let run = |tokens: usize, output: &str| {
        work.write("sample.jsonl", json!({ "input_ids": all[..tokens] }).to_string());
        outcome(&mut work.run("sample.jsonl", output, "")).printed();
        let report = report(&work.path(output));
        let number = |name: &str| report["experts"][name].as_u64().unwrap();
        let layers = report["num_layers"].as_u64().unwrap() as usize;
        let experts = layers * report["moe"]["num_experts"].as_u64().unwrap() as usize;
        let chosen: usize = chosen_experts(&work.path(output), layers).iter().sum();
        // Each expert has as many bytes as the others, and is read once, from the start of a block.
        let least = number("bytes") / experts as u64 * chosen as u64;
        let with_blocks = least..=least + BLOCK * chosen as u64;
        let read = number("bytes_read");
        assert!(with_blocks.contains(&read), "{read} bytes for {chosen} of {experts} experts, {least}");
        (chosen, experts)
    };
    let (few, experts) = run(1, "one");
    assert!(few < experts, "a token chooses few experts");
    let (more, _) = run(all.len(), "all");
    assert!(more > few, "more tokens choose more of them");
}

#[test]
fn sums_do_not_depend_on_which_thread_was_faster() {
    // Three experts a token: two give the same sum in any order.
    let work = Workplace::new(PROGRAM, "olmoe");
    work.write("records.jsonl", json_lines(&work.records));
    let hidden = |threads: usize, turn: usize| {
        let output = format!("{threads}_{turn}");
        outcome(work.run("records.jsonl", &output, "").env("RAYON_NUM_THREADS", threads.to_string()))
            .printed();
        std::fs::read(work.path(&output).join("hidden/final/part-00000.safetensors")).unwrap()
    };
    let alone = hidden(1, 0);
    for turn in 0..8 {
        assert!(hidden(4, turn) == alone, "turn {turn}: four threads give other bits than one");
    }
}

/// Kimi K2's dimensions, in files that are holes.
#[test]
#[ignore = "slow: a trillion parameters take half a minute"]
fn a_trillion_parameters_run_in_six_gibibytes() {
    let work = Workplace::new(PROGRAM, "llama");
    let model = work.path("kimi-k2");
    let mut synth = Command::new(env!("CARGO"));
    synth.args(["xtask", "synth", "--shape", "kimi-k2", "--sparse"]).arg(&model);
    outcome(synth.current_dir(env!("CARGO_MANIFEST_DIR"))).printed();
    work.write("sample.jsonl", json!({ "input_ids": (100..116).collect::<Vec<_>>() }).to_string());
    let (model, dataset, output) = (model.display(), "sample.jsonl", work.path("output"));
    let run = format!("run {model} --dataset {dataset} --output {} --memory 6GiB --quiet", output.display());
    outcome(&mut work.command(&run)).printed();

    let report = report(&output);
    assert!(report["peak_memory"].as_u64().unwrap() < 6 << 30, "{}", report["peak_memory"]);
    assert_eq!(report["num_layers"], json!(61));
    let (read, all) = (&report["experts"]["bytes_read"], &report["experts"]["bytes"]);
    assert!(all.as_u64().unwrap() > 1_000_000_000_000, "{all}");
    // 16 tokens choose at most 128 of 384 experts.
    assert!(read.as_u64().unwrap() <= all.as_u64().unwrap() / 3, "{read} of {all}");
}
