//! What a run is said to cost before it runs, against what it then did.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use serde_json::{Value, json};
use sli_tests::command::{Workplace, json_lines, outcome, tree};

fn workplace(case: &str) -> Workplace {
    Workplace::new(env!("CARGO_BIN_EXE_sli-cli"), case)
}

fn plan(work: &Workplace, options: &str) -> Value {
    outcome(work.command(&format!("plan --json {options}")).arg(work.model())).json()
}

/// Bytes of all files below a folder.
fn bytes_below(work: &Workplace, folder: &str) -> u64 {
    tree(&work.path(folder)).iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

/// Adds the rate of the model's disk to what is kept: a model as small as these says nothing of it.
fn know_the_disk(work: &Workplace) {
    let path = work.path("cache/sli/machine.json");
    let mut kept: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let device = format!("device {}", fs::metadata(work.model()).unwrap().dev());
    kept["disk"][device] = json!({"at": at, "rates": 1e9});
    fs::write(&path, kept.to_string()).unwrap();
}

#[test]
fn a_plan_counts_what_the_run_then_reads_and_writes() {
    let work = workplace("llama");
    work.write("records.jsonl", json_lines(&work.records));
    let options = "--hidden-states all --logits full --score --dtype f32 --memory 512MiB";
    let plan = plan(&work, &format!("--dataset records.jsonl {options}"));
    know_the_disk(&work);
    let run = work.run_records("out", options);

    let forecast = &plan["forecast"];
    let count = |name: &str| forecast["work"][name].as_u64().unwrap();
    let read = run["report"]["bytes_read"].as_u64().unwrap();
    // Reads are whole blocks, and rows of the embedding are read apart from what run.json counts.
    assert!(count("weight_bytes").abs_diff(read) < read / 8, "{forecast} {read}");
    let tensors = ["out/hidden", "out/logits", "out/scores"].map(|folder| bytes_below(&work, folder));
    let (written, headers) = (tensors.iter().sum::<u64>(), 7 * (1 << 10));
    assert!(
        (written.saturating_sub(headers)..=written).contains(&count("output_bytes")),
        "{forecast} {written}"
    );
    assert_eq!(count("spill_bytes"), 0);
    assert!(count("dense_flops") > 0 && count("attention_flops") > 0);
    // In each of 3 layers four matrices of 32 x 32 and three of 32 x 48, and a head of 96 x 32.
    let sides = 3 * (4 * 64 + 3 * 80) + 128;
    assert_eq!(count("dense_floats"), sides * plan["tokens"].as_u64().unwrap());
    assert_eq!(count("activated_values"), 3 * 48 * plan["tokens"].as_u64().unwrap());
    assert!(
        forecast["prepare_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0),
        "records were tokenized"
    );

    for seconds in ["seconds", "limit_seconds", "disk_seconds", "compute_seconds"] {
        assert!(forecast[seconds].as_f64().is_some_and(|s| s.is_finite() && s > 0.0), "{forecast}");
    }
    // The processor was measured for the plan, so the run knew it too.
    assert_eq!(run["report"]["speed"]["forecast"]["work"], forecast["work"]);
    assert!(run["report"]["speed"]["share_of_limit"].as_f64().is_some_and(|share| share > 0.0));
}

#[test]
fn experts_that_tokens_choose_count_as_often_as_they_are_chosen() {
    let plan = plan(&workplace("mixtral"), "--tokens 64 --memory 512MiB");
    // Each token goes through 2 of 5 experts in each of 3 layers: 48 values between their products.
    assert_eq!(plan["forecast"]["work"]["activated_values"], 3 * 2 * 48 * 64);
}

#[test]
fn what_was_measured_is_kept_and_damage_to_it_is_no_matter() {
    let work = workplace("llama");
    let first = plan(&work, "--tokens 64 --memory 512MiB");
    let kept = work.path("cache/sli/machine.json");
    assert_eq!(first["forecast"]["prepare_seconds"], 0.0, "there were no records");
    let compute = |plan: &Value| plan["forecast"]["machine"]["compute"].clone();
    assert_eq!(compute(&plan(&work, "--tokens 64 --memory 512MiB")), compute(&first));
    fs::write(&kept, "{ not json").unwrap();
    assert!(plan(&work, "--tokens 64 --memory 512MiB")["forecast"]["seconds"].is_number());
    assert!(fs::read_to_string(&kept).unwrap().contains("products"), "written anew");
}

#[test]
fn spilling_and_experts_are_counted() {
    let work = workplace("mixtral");
    let few = plan(&work, "--tokens 4 --sample-length 4 --memory 512MiB");
    let many = plan(&work, "--tokens 400 --sample-length 20 --memory 512MiB --activations disk");
    let count = |plan: &Value, name: &str| plan["forecast"]["work"][name].as_u64().unwrap();
    assert!(count(&few, "weight_bytes") < count(&many, "weight_bytes"), "few tokens choose few experts");
    assert_eq!(count(&few, "spill_bytes"), 0);
    assert!(count(&many, "spill_bytes") > 0 && many["memory"]["spilled"] == true);
    assert_eq!(count(&many, "expert_flops"), 100 * count(&few, "expert_flops"));
}

#[test]
fn the_embedding_is_read_once_where_many_chunks_take_rows_of_it() {
    let work = workplace("llama");
    let ids = |sample: usize| (0..8).map(|i| (sample * 7 + i * 5) % 96).collect::<Vec<_>>();
    work.write("ids.jsonl", json_lines(&(0..120).map(|i| json!({"input_ids": ids(i)})).collect::<Vec<_>>()));
    let options = "--hidden-states all --memory 512MiB";
    let of = |output: &str, more: &str| {
        let options = format!("{options} {more}");
        let plan = plan(&work, &format!("--dataset ids.jsonl {options}"));
        outcome(&mut work.run("ids.jsonl", output, &options)).printed();
        (plan["memory"]["embedding_resident"] == true, tree(&work.path(output).join("hidden/embedding")))
    };
    let (kept, from_memory) = of("many", "--batch-size 1");
    let (not_kept, from_file) = of("one", "");
    assert!(kept && !not_kept);
    assert_eq!(from_memory, from_file);
}

#[test]
fn chunks_side_by_side_give_the_same_bytes() {
    for case in ["llama", "t5_v1_1_gated_gelu"] {
        let work = workplace(case);
        let many = work.records.iter().cycle().take(40).cloned().collect::<Vec<_>>();
        work.write("many.jsonl", json_lines(&many));
        let of = |threads: usize, place: &str| {
            let options = format!("--hidden-states all --memory 512MiB --batch-size 3 --activations {place}");
            let (mut planned, output) =
                (work.command("plan --json --dataset many.jsonl"), format!("{threads}_{place}"));
            planned.args(options.split_whitespace()).arg(work.model());
            let threads = threads.to_string();
            let plan = outcome(planned.env("RAYON_NUM_THREADS", &threads)).json();
            outcome(work.run("many.jsonl", &output, &options).env("RAYON_NUM_THREADS", &threads)).printed();
            let files = ["hidden", "stats"].map(|folder| tree(&work.path(&output).join(folder)));
            (plan["memory"]["chunks_abreast"].as_u64(), files)
        };
        let (one, alone) = of(1, "memory");
        assert_eq!(one, Some(1), "one thread takes chunk after chunk");
        for place in ["memory", "disk"] {
            let (four, abreast) = of(4, place);
            assert_eq!(four, Some(4));
            assert_eq!(alone, abreast, "{case}, activations on {place}");
        }
    }
}

#[test]
fn people_are_told_in_words_and_mistakes_before_anything_is_measured() {
    let work = workplace("llama");
    let told = outcome(work.command("plan --tokens 100 --memory 512MiB").arg(work.model()));
    for phrase in ["Plan: ", "100 tokens", "bound by ", "Memory, 512MiB at most:", "GB/s", "GFLOP/s"] {
        assert!(told.printed().contains(phrase), "no '{phrase}' in {}", told.stdout);
    }
    let little = outcome(work.command("plan --tokens 100 --memory 1MiB").arg(work.model()));
    assert!(little.complaint(1).contains("memory"), "{}", little.stderr);
    let long = outcome(work.command("plan --tokens 9000000 --sample-length 9000000").arg(work.model()));
    assert!(long.complaint(1).contains("tokens"), "{}", long.stderr);
}
