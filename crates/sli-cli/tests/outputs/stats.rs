//! Activation statistics, against the hidden states they are of.

use serde_json::{Value, json};
use sli_tests::tensors::{read_file, read_folder};

use crate::{assert_close, assert_tensors, workplace};

const WIDTH: usize = 32;

#[test]
fn channels_are_those_of_the_hidden_states() {
    let work = workplace("llama");
    work.run_records("out", "--hidden-states all --batch-size 1");
    let profile: Value =
        serde_json::from_slice(&std::fs::read(work.path("out/profile.json")).unwrap()).unwrap();
    for layer in 0..3 {
        let name = format!("layer_{layer:04}");
        let path = work.path("out/stats").join(format!("{name}.safetensors"));
        let vector: &[usize] = &[WIDTH];
        assert_tensors(&path, &["mean", "var", "abs_max", "second_moment"].map(|name| (name, "F32", vector)));
        let stats = read_file(&path);
        let hidden = read_folder(&work.path("out/hidden").join(&name), "hidden_states").values;
        let rows = (hidden.len() / WIDTH) as f64;
        let channel = |c: usize| hidden.iter().skip(c).step_by(WIDTH).copied();
        let each = |f: &dyn Fn(usize) -> f64| (0..WIDTH).map(f).collect::<Vec<_>>();
        let mean = each(&|c| channel(c).sum::<f64>() / rows);
        assert_close(&stats["mean"].values, &mean, 1e-6, "mean");
        let variance = each(&|c| channel(c).map(|v| (v - mean[c]).powi(2)).sum::<f64>() / rows);
        assert_close(&stats["var"].values, &variance, 1e-6, "var");
        let largest = each(&|c| channel(c).fold(0.0, |most, v| v.abs().max(most)));
        assert_close(&stats["abs_max"].values, &largest, 0.0, "abs_max");
        let squares = each(&|c| channel(c).map(|v| v * v).sum::<f64>() / rows);
        assert_close(&stats["second_moment"].values, &squares, 1e-6, "second_moment");

        let entry = profile.as_array().unwrap().iter().find(|entry| entry["name"] == json!(name)).unwrap();
        let count = hidden.len() as f64;
        let overall = hidden.iter().sum::<f64>() / count;
        let moment = |power: i32| hidden.iter().map(|v| (v - overall).powi(power)).sum::<f64>() / count;
        let expected = [
            ("mean", overall),
            ("std", moment(2).sqrt()),
            ("rms", (hidden.iter().map(|v| v * v).sum::<f64>() / count).sqrt()),
            ("abs_max", hidden.iter().fold(0.0, |most, v| v.abs().max(most))),
            ("kurtosis", moment(4) / moment(2).powi(2)),
        ];
        for (key, expected) in expected {
            assert_close(&[entry[key].as_f64().unwrap()], &[expected], 1e-6, &format!("{name} {key}"));
        }
    }
}

#[test]
fn experts_are_counted() {
    const EXPERTS: usize = 5;
    const TOP_K: usize = 2;
    let work = workplace("mixtral");
    let result = work.run_records("out", "");
    let tokens = result["num_tokens"].as_u64().unwrap() as usize;
    for layer in 0..3 {
        let path = work.path(&format!("out/stats/layer_{layer:04}.safetensors"));
        let (vector, experts): (&[usize], &[usize]) = (&[WIDTH], &[EXPERTS]);
        assert_tensors(
            &path,
            &[
                ("mean", "F32", vector),
                ("var", "F32", vector),
                ("abs_max", "F32", vector),
                ("second_moment", "F32", vector),
                ("expert_tokens", "I64", experts),
                ("expert_weight", "F32", experts),
            ],
        );
        let stats = read_file(&path);
        assert_eq!(stats["expert_tokens"].indices().iter().sum::<usize>(), tokens * TOP_K);
        // Mixtral's weights of a token add up to one.
        let weight: f64 = stats["expert_weight"].values.iter().sum();
        assert_close(&[weight], &[tokens as f64], 1e-5, "expert_weight");
        for (count, weight) in stats["expert_tokens"].values.iter().zip(&stats["expert_weight"].values) {
            assert!((0.0..=*count).contains(weight), "{weight} over {count} tokens");
        }
    }
    assert_eq!(result["report"]["moe"]["num_experts"], json!(EXPERTS));
    assert_eq!(result["report"]["moe"]["experts_per_token"], json!(TOP_K));
}

#[test]
fn statistics_can_be_left_out() {
    let work = workplace("llama");
    work.run_records("out", "--no-stats");
    assert!(!work.path("out/stats").exists());
    let profile: Value =
        serde_json::from_slice(&std::fs::read(work.path("out/profile.json")).unwrap()).unwrap();
    assert!(profile[1].get("kurtosis").is_none() && profile[1].get("compute_seconds").is_some(), "{profile}");
    // The last of the two counts.
    work.run_records("again", "--no-stats --stats");
    assert!(work.path("again/stats").exists());
}
