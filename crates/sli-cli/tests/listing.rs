//! What the program says of models and of unfinished runs, to people and to scripts.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use sli_tests::command::{Workplace, json_lines, outcome};

/// The families that the project's documentation promises.
const FAMILIES: usize = 10;

fn workplace(case: &str) -> Workplace {
    Workplace::new(env!("CARGO_BIN_EXE_sli-cli"), case)
}

#[test]
fn families_and_models() {
    let work = workplace("llama");
    let families = outcome(&mut work.command("families --json")).json();
    let families = families["families"].as_array().unwrap();
    assert!(families.len() >= FAMILIES, "{}", families.len());
    let table = outcome(&mut work.command("families"));
    let models = outcome(&mut work.command("models --json")).json();
    let models = models.as_array().unwrap();
    for family in families {
        let name = family["family"].as_str().unwrap();
        let row = table.printed().lines().find(|line| line.starts_with(name)).expect("a row");
        for architecture in family["architectures"].as_array().unwrap() {
            assert!(row.contains(architecture["name"].as_str().unwrap()), "{row}");
        }
        // The same models however they are asked for.
        let of_family: Vec<_> = models.iter().filter(|model| model["family"] == name).cloned().collect();
        let asked = outcome(&mut work.command(&format!("models {} --json", name.to_lowercase()))).json();
        assert_eq!(asked, Value::Array(of_family.clone()), "{name}");
        let listed = outcome(&mut work.command(&format!("models {name}")));
        assert_eq!(listed.printed().lines().count(), 1 + of_family.len(), "a heading, and a line per model");
        for model in of_family {
            assert!(listed.stdout.contains(model["model"]["id"].as_str().unwrap()), "{model}");
        }
    }
    let refused = outcome(&mut work.command("models Lama"));
    assert!(refused.complaint(1).contains("no family 'Lama'; there are Llama"), "{}", refused.stderr);
}

#[test]
fn inspect_names_sizes_and_experts() {
    let work = workplace("mixtral");
    let inspect =
        |options: &str| outcome(work.command("inspect").arg(work.model()).args(options.split_whitespace()));
    let document = inspect("--json").json();
    assert_eq!(document["supported"], json!(true));
    assert_eq!(document["unread_config_keys"], json!([]));
    let summary = &document["summary"];
    for (key, value) in [
        ("architecture", json!("mixtral")),
        ("family", json!("MoE")),
        ("num_layers", json!(3)),
        ("hidden_size", json!(32)),
        ("vocab_size", json!(96)),
        ("max_length", json!(64)),
        ("weight_dtype", json!("f32")),
    ] {
        assert_eq!(summary[key], value, "{key}");
    }
    let moe = &summary["moe"];
    assert_eq!((&moe["num_experts"], &moe["experts_per_token"]), (&json!(5), &json!(2)));
    // Three matrices of 32 x 48.
    assert_eq!(moe["parameters_per_expert"], json!(3 * 32 * 48));
    let parameters = summary["parameters"].as_u64().unwrap();
    assert_eq!(summary["weight_bytes"], json!(4 * parameters));

    let text = inspect("");
    for phrase in
        ["supported            yes", "mixtral (family MoE)", "5 per layer, 2 per token", "64 tokens"]
    {
        assert!(text.printed().contains(phrase), "no '{phrase}' in {}", text.stdout);
    }
    assert!(text.stdout.contains(&parameters.to_string()));
}

#[test]
fn inspect_resolves_a_layer() {
    let work = workplace("mixtral");
    let inspect =
        |options: &str| outcome(work.command("inspect").arg(work.model()).args(options.split_whitespace()));
    let document = inspect("--layer 2 --json").json();
    let layer = &document["layer"];
    let attention = &layer["mixer"]["attention"];
    assert_eq!((&attention["num_heads"], &attention["num_kv_heads"]), (&json!(4), &json!(2)));
    assert_eq!(attention["position"]["rope"]["theta"], json!(500.0));
    assert_eq!(layer["ffn"]["moe"]["router"]["top_k"], json!(2));
    let weights = document["weights"].as_array().unwrap();
    assert!(weights.iter().any(|weight| weight["stored"] == "model.layers.2.self_attn.q_proj.weight"));
    let refused = inspect("--layer 3");
    assert!(refused.complaint(1).contains("--layer 3: the model has layers 0 to 2"), "{}", refused.stderr);
}

/// What a person reads beside the paper. `SLI_UPDATE_SNAPSHOTS=1` writes the snapshots again.
#[test]
fn inspect_tells_a_layer() {
    for (case, layer) in [("llama", 0), ("glm", 1), ("gpt2", 2), ("mixtral", 0), ("t5_v1_1_gated_gelu", 4)] {
        let work = workplace(case);
        let told = outcome(work.command("inspect").arg(work.model()).args(["--layer", &layer.to_string()]));
        let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/layers/{case}.txt"));
        if std::env::var_os("SLI_UPDATE_SNAPSHOTS").is_some() {
            std::fs::create_dir_all(snapshot.parent().unwrap()).unwrap();
            std::fs::write(&snapshot, told.printed()).unwrap();
        }
        let expected = std::fs::read_to_string(&snapshot).unwrap_or_default();
        assert!(told.printed() == expected, "{case} differs from {}:\n{}", snapshot.display(), told.stdout);
    }
}

#[test]
fn inspect_answers_for_models_that_are_not_supported() {
    let work = workplace("llama");
    std::fs::write(work.model().join("config.json"), r#"{"model_type": "lama"}"#).unwrap();
    let document = outcome(work.command("inspect --json").arg(work.model())).json();
    assert_eq!(document["supported"], json!(false));
    assert!(document["why_not"].as_str().unwrap().contains("'lama'"), "{document}");
    let refused = outcome(work.command("inspect").arg(work.model()));
    assert!(refused.complaint(1).contains("llama"), "{}", refused.stderr);
}

/// Interrupts a run in `output` after its first commits.
fn interrupt_a_run(work: &Workplace, output: &str) {
    let records: Vec<_> = work.records.iter().cycle().take(200).cloned().collect();
    work.write("many.jsonl", json_lines(&records));
    let options = "--batch-size 1 --activations disk --commit-every 0 --quiet";
    let mut child = work.run("many.jsonl", output, options).stderr(Stdio::null()).spawn().unwrap();
    let journal = work.path(output).join(".activations/sli-run.jsonl");
    while !journal.metadata().is_ok_and(|journal| journal.len() > 2000) {
        assert!(child.try_wait().unwrap().is_none(), "it finished too soon to be interrupted");
        sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn the_cache_knows_unfinished_runs() {
    let work = workplace("llama");
    let cache = |arguments: &str| outcome(&mut work.command(&format!("cache {arguments} --output runs")));
    assert!(cache("list").printed().contains("no unfinished runs below runs"));
    assert_eq!(cache("list --json").json(), json!([]));
    cache("clear").printed();

    std::fs::create_dir(work.path("runs")).unwrap();
    interrupt_a_run(&work, "runs/one");
    let listed = cache("list --json").json();
    let state = &listed[0];
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&state["path"], &state["condition"]), (&json!("runs/one/.activations"), &json!("resumable")));
    assert!(state["commits"].as_u64().unwrap() > 1 && state["bytes"].as_u64().unwrap() > 0, "{state}");
    assert_eq!(state["fingerprint"]["dtype"], json!("f32"));
    let text = cache("list");
    assert!(text.printed().contains("runs/one/.activations") && text.stdout.contains("resumable, at stage "));

    assert!(cache("verify").printed().contains("whole"));
    assert_eq!(cache("verify --json").json()[0][1]["damaged"], json!([]));
    let spilled = work.path("runs/one/.activations/sli-even.spill");
    let mut bytes = std::fs::read(&spilled).unwrap();
    let middle = bytes.iter().position(|byte| *byte != 0).unwrap() + 40;
    bytes[middle] ^= 1;
    std::fs::write(&spilled, bytes).unwrap();
    let damaged = cache("verify");
    assert_eq!(damaged.status, Some(1));
    assert!(damaged.stdout.contains("damaged: ") && damaged.stderr.starts_with("error: 1 "), "{damaged:?}");

    assert!(cache("clear").printed().contains("removed 1 unfinished runs"));
    assert!(!work.path("runs/one/.activations").exists());
    assert_eq!(cache("list --json").json(), json!([]));
}

#[test]
fn a_reader_may_leave_early() {
    let work = workplace("llama");
    for arguments in ["families --json", "models"] {
        let mut child =
            work.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        child.wait().unwrap();
        assert_eq!(complaint, "", "{arguments}");
    }
}
