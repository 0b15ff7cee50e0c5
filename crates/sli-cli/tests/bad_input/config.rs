//! Configs that are missing, broken, unknown, or say what makes no sense.

use std::fs;

use serde_json::{Value, json};
use sli_tests::command::{Workplace, outcome};

use crate::{assert_mentions, refused, workplace};

fn set_config(work: &Workplace, text: &str) {
    fs::write(work.model().join("config.json"), text).unwrap();
}

/// The golden llama's config with another value for one key.
fn changed(work: &Workplace, key: &str, value: Value) -> String {
    let mut config: Value =
        serde_json::from_str(&fs::read_to_string(work.model().join("config.json")).unwrap()).unwrap();
    config[key] = value;
    config.to_string()
}

#[test]
fn a_directory_without_config() {
    let work = workplace("llama");
    fs::remove_file(work.model().join("config.json")).unwrap();
    assert_mentions(&refused(&work, ""), &["config.json"]);
}

#[test]
fn a_model_that_is_nowhere() {
    let work = workplace("llama");
    let mut command = work.command("run ./nowhere --dataset records.jsonl --output out");
    assert_mentions(outcome(&mut command).complaint(1), &["nowhere"]);
    let mut command = work.command("run nobody/nothing --dataset records.jsonl --output out --offline");
    assert_mentions(outcome(&mut command).complaint(1), &["nobody/nothing"]);
    assert!(!work.path("out").exists());
}

#[test]
fn a_config_that_is_not_json() {
    let work = workplace("llama");
    for text in ["", "{", "[]", "3", "\u{feff}", "{\"model_type\": \"llama\",}", "\0\0\0"] {
        set_config(&work, text);
        assert_mentions(&refused(&work, ""), &["config.json"]);
    }
    fs::write(work.model().join("config.json"), b"{\"model_type\": \"\xff\"}").unwrap();
    assert_mentions(&refused(&work, ""), &["config.json"]);
    set_config(&work, &"[".repeat(100_000));
    assert_mentions(&refused(&work, ""), &["config.json"]);
}

#[test]
fn an_unknown_architecture_is_named_with_near_ones() {
    let work = workplace("llama");
    set_config(&work, r#"{"model_type": "lama", "architectures": ["LamaForCausalLM"]}"#);
    let complaint = refused(&work, "");
    assert_mentions(
        &complaint,
        &["unsupported architecture", "'lama'", "LamaForCausalLM", "hint: ", "llama"],
    );
    set_config(&work, r#"{"model_type": "zzzzzzzzzzzz"}"#);
    assert_mentions(&refused(&work, ""), &["'zzzzzzzzzzzz'", "sli-cli families"]);
    set_config(&work, "{}");
    assert_mentions(&refused(&work, ""), &["unsupported architecture"]);
}

#[test]
fn strict_refuses_keys_that_nobody_understands() {
    let work = workplace("llama");
    set_config(&work, &changed(&work, "warp_factor", json!(9)));
    assert_mentions(&refused(&work, "--strict"), &["warp_factor"]);
    let result = outcome(&mut work.run("records.jsonl", "warned", "--quiet"));
    assert_mentions(&result.stderr, &["WARN", "warp_factor"]);
    assert!(!result.stderr.contains('\x1b'), "colours belong on a terminal: {:?}", result.stderr);
    assert_eq!(result.status, Some(0));
}

/// Whatever a config says of a key that counts, the answer is a run or an error, never a crash.
#[test]
fn no_value_of_a_config_crashes_the_program() {
    let values = [
        json!(0),
        json!(-1),
        json!(3),
        json!(1u64 << 62),
        json!(1.5e300),
        json!("many"),
        json!(null),
        json!([]),
    ];
    for case in ["llama", "mixtral", "t5_relu"] {
        let work = workplace(case);
        let original = fs::read_to_string(work.model().join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&original).unwrap();
        for key in config.as_object().unwrap().keys() {
            for value in values.iter().filter(|value| config[key] != **value) {
                set_config(&work, &original);
                set_config(&work, &changed(&work, key, value.clone()));
                let mut command = work.command("inspect --layer 0");
                let result = outcome(command.arg(work.model()));
                if result.status != Some(0) {
                    let complaint = result.complaint(1);
                    assert!(complaint.len() < 2000, "{case}, {key} = {value}: {complaint}");
                }
            }
        }
    }
}
