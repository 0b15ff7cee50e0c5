//! Options that make no sense, or not for this model, this memory, this output directory.

use serde_json::Value;
use sli_tests::command::{outcome, tree};

use crate::{assert_mentions, refused, workplace};

#[test]
fn values_are_checked_by_the_command_line() {
    let work = workplace("llama");
    for options in [
        "--memory lots",
        "--memory 0",
        "--memory=-1GiB",
        "--batch-size 0",
        "--batch-size=-3",
        "--max-length 0",
        "--hidden-states 1..",
        "--hidden-states layer3",
        "--hidden-states=",
        "--hidden-dtype f64",
        "--logits top:0",
        "--logits top:99999999999999999999",
        "--pool max",
        "--device tpu",
        "--device cuda:x",
        "--dtype f16",
        "--activations cloud",
        "--prefetch=-1",
        "--commit-every=-1",
        "--commit-every nan",
        "--no-such-option",
    ] {
        let complaint = outcome(&mut work.run("records.jsonl", "out", options)).complaint(2).to_string();
        let option = options.split(['=', ' ']).next().unwrap();
        assert_mentions(&complaint, &[option]);
        assert!(!work.path("out").exists(), "{options}");
    }
    outcome(&mut work.command("run model")).complaint(2);
    outcome(&mut work.command("walk")).complaint(2);
}

#[test]
fn layers_that_are_not_there() {
    let work = workplace("llama");
    for (list, layer) in
        [("99", "99"), ("3", "3"), ("-4", "-4"), ("0,1..7", "7"), ("9223372036854775807", "layer")]
    {
        let complaint = refused(&work, &format!("--hidden-states {list}"));
        assert_mentions(&complaint, &["--hidden-states", layer, "layers 0 to 2"]);
    }
}

#[test]
fn numbers_beyond_reason_are_as_good_as_the_largest_that_count() {
    let work = workplace("llama");
    let most = usize::MAX;
    let options = format!("--prefetch {most} --batch-size {most} --max-length {most} --memory 16000000TiB");
    work.run_records("most", &options);
    work.run_records("default", "");
    let hidden = |output: &str| std::fs::read(work.path(output).join("hidden/final/part-00000.safetensors"));
    assert_eq!(hidden("most").unwrap(), hidden("default").unwrap());
}

#[test]
fn logits_that_are_not_there() {
    assert_mentions(&refused(&workplace("llama"), "--logits top:97"), &["top:97", "96 logits"]);
}

#[test]
fn a_model_that_does_not_predict_is_not_scored() {
    assert_mentions(&refused(&workplace("bert"), "--score"), &["--score", "bert"]);
}

#[test]
fn learned_positions_end() {
    for case in ["gpt2", "bert"] {
        let work = workplace(case);
        assert_mentions(&refused(&work, "--max-length 17"), &["--max-length 17", "16 positions"]);
        work.run_records("out", "--max-length 16");
    }
}

#[test]
fn a_device_that_this_build_cannot_use() {
    if cfg!(feature = "cuda") {
        return;
    }
    assert_mentions(&refused(&workplace("llama"), "--device cuda"), &["cuda", "built without CUDA"]);
}

#[test]
fn too_small_a_memory_says_what_is_enough_and_that_is_enough() {
    for (case, options) in [("llama", "--logits full"), ("mixtral", "--activations disk"), ("t5_relu", "")] {
        let work = workplace(case);
        let complaint = refused(&work, &format!("{options} --memory 2MiB"));
        assert_mentions(&complaint, &["--memory 2MiB is too small", "at least"]);
        let hint =
            complaint.lines().find_map(|line| line.strip_prefix("hint: try --memory ")).expect("a hint");
        work.run_records("out", &format!("{options} --memory {hint}"));
        let report: Value =
            serde_json::from_slice(&std::fs::read(work.path("out/run.json")).unwrap()).unwrap();
        let allowed = hint.strip_suffix("MiB").expect("MiB").parse::<u64>().unwrap() << 20;
        assert!(report["peak_memory"].as_u64().unwrap() <= allowed, "{case} took more than {hint}: {report}");
    }
}

#[test]
fn the_finished_run_of_something_else_is_left_alone() {
    let work = workplace("llama");
    work.run_records("out", "");
    let before = tree(&work.path("out"));
    let complaint = outcome(&mut work.run("records.jsonl", "out", "--pool mean")).complaint(1).to_string();
    assert_mentions(
        &complaint,
        &["out holds the finished run of something else", "pool was none, is mean", "--fresh"],
    );
    assert_eq!(tree(&work.path("out")), before);

    let other = workplace("mixtral");
    let mut command = other.run("records.jsonl", work.path("out").to_str().unwrap(), "");
    assert_mentions(outcome(&mut command).complaint(1), &["something else", "weights was"]);
    assert_eq!(tree(&work.path("out")), before);
}

#[test]
fn a_directory_with_a_run_json_of_another_program_is_left_alone() {
    let work = workplace("llama");
    std::fs::create_dir(work.path("out")).unwrap();
    work.write("out/run.json", r#"{"experiment": 7}"#);
    let complaint = outcome(&mut work.run("records.jsonl", "out", "")).complaint(1).to_string();
    assert_mentions(&complaint, &["run.json", "another"]);
    assert_eq!(tree(&work.path("out")).len(), 1);
}

#[test]
fn an_output_that_is_a_file() {
    let work = workplace("llama");
    work.write("out", "mine");
    let complaint = outcome(&mut work.run("records.jsonl", "out", "")).complaint(1).to_string();
    assert_mentions(&complaint, &["out"]);
    assert_eq!(std::fs::read_to_string(work.path("out")).unwrap(), "mine");
}
