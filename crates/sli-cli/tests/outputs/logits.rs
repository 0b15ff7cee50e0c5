//! Logits and scores, against each other.

use serde_json::{Value, json};
use sli_tests::command::{Workplace, json_lines, outcome};
use sli_tests::golden::case;
use sli_tests::tensors::{Values, read_folder};

use crate::{assert_close, assert_tensors, log_sum_exp, workplace};

const TOKENS: usize = 20;
const VOCAB: usize = 96;

fn logits(work: &Workplace, output: &str, column: &str) -> Values {
    read_folder(&work.path(output).join("logits"), column)
}

#[test]
fn full_logits() {
    let work = workplace("llama");
    work.run_records("out", "--logits full --score --hidden-states all");
    let part = work.path("out/logits/part-00000.safetensors");
    assert_tensors(&part, &[("logits", "F32", &[TOKENS, VOCAB]), ("offsets", "I64", &[3])]);
    let part = work.path("out/scores/part-00000.safetensors");
    assert_tensors(&part, &[("token_log_likelihood", "F32", &[TOKENS]), ("offsets", "I64", &[3])]);
    case("llama").compare(&work.path("out")).unwrap();
}

#[test]
fn the_best_logits_are_those_of_all() {
    const K: usize = 5;
    let work = workplace("llama");
    work.run_records("full", "--logits full");
    work.run_records("top", "--logits top:5");
    let part = work.path("top/logits/part-00000.safetensors");
    assert_tensors(
        &part,
        &[
            ("values", "F32", &[TOKENS, K]),
            ("indices", "I32", &[TOKENS, K]),
            ("logsumexp", "F32", &[TOKENS]),
            ("offsets", "I64", &[3]),
        ],
    );
    assert_eq!(logits(&work, "top", "offsets"), logits(&work, "full", "offsets"));
    let full = logits(&work, "full", "logits").values;
    let (values, indices) =
        (logits(&work, "top", "values").values, logits(&work, "top", "indices").indices());
    for (token, row) in full.chunks(VOCAB).enumerate() {
        let mut order: Vec<usize> = (0..VOCAB).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let here = token * K..(token + 1) * K;
        assert_eq!(indices[here.clone()], order[..K], "token {token}");
        let best: Vec<f64> = order[..K].iter().map(|index| row[*index]).collect();
        assert_eq!(values[here], best, "token {token}");
    }
    let sums: Vec<f64> = full.chunks(VOCAB).map(log_sum_exp).collect();
    assert_close(&logits(&work, "top", "logsumexp").values, &sums, 1e-6, "logsumexp");
    // As many as there are is allowed.
    work.run_records("all", "--logits top:96");
    let sorted = logits(&work, "all", "values").values;
    assert!(sorted.chunks(VOCAB).all(|row| row.is_sorted_by(|a, b| a >= b)));
}

/// ln p of each token given those before it, from full logits; zero for the first of each sample.
fn expected_scores(logits: &[f64], samples: &[Vec<usize>]) -> Vec<f64> {
    let mut rows = logits.chunks(VOCAB);
    let mut scores = Vec::new();
    for sample in samples {
        let rows: Vec<_> = rows.by_ref().take(sample.len()).collect();
        scores.push(0.0);
        scores.extend(rows.iter().zip(&sample[1..]).map(|(row, next)| row[*next] - log_sum_exp(row)));
    }
    scores
}

#[test]
fn scores_follow_from_the_logits() {
    for (name, ids) in [("llama", "input_ids"), ("t5_relu", "decoder_input_ids")] {
        let work = workplace(name);
        let result = work.run_records("out", "--logits full --score");
        let ids: Vec<Vec<usize>> =
            work.records.iter().map(|record| serde_json::from_value(record[ids].clone()).unwrap()).collect();
        let expected = expected_scores(&logits(&work, "out", "logits").values, &ids);
        let scores = read_folder(&work.path("out/scores"), "token_log_likelihood").values;
        assert_close(&scores, &expected, 1e-6, name);

        let mut rows = scores.iter();
        for (sample, ids) in result["samples"].as_array().unwrap().iter().zip(&ids) {
            let sum: f64 = rows.by_ref().take(ids.len()).sum();
            let perplexity = (-sum / (ids.len() - 1) as f64).exp();
            assert_close(&[sample["log_likelihood"].as_f64().unwrap()], &[sum], 1e-9, name);
            assert_close(&[sample["perplexity"].as_f64().unwrap()], &[perplexity], 1e-9, name);
        }
    }
}

#[test]
fn only_the_continuation_is_scored() {
    let work = workplace("llama");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");
    let (context, continuation) = ("Nora climbed the stairs", ", cleaned the glass and lit the lamp.");
    let records = [
        json!({"text": format!("{context}{continuation}")}),
        json!({"context": context, "continuation": continuation}),
    ];
    work.write("pair.jsonl", json_lines(&records));
    let mut command = work.command(&format!("run {model} --dataset pair.jsonl --output out --score --json"));
    let samples: Value = outcome(&mut command).json()["samples"].clone();
    let scores = read_folder(&work.path("out/scores"), "token_log_likelihood").values;
    let tokens = samples[0]["num_tokens"].as_u64().unwrap() as usize;
    assert_eq!(samples[1]["num_tokens"], json!(tokens));
    assert_eq!(scores[..tokens], scores[tokens..], "the same tokens");

    let score = |sample: usize| samples[sample]["log_likelihood"].as_f64().unwrap();
    let tails: Vec<f64> = (1..tokens).map(|from| scores[from..tokens].iter().sum()).collect();
    assert!((score(0) - tails[0]).abs() < 1e-9);
    let from =
        tails.iter().position(|tail| (tail - score(1)).abs() < 1e-9).expect("the sum of the last tokens") + 1;
    // `<s>` and the words of the context come before.
    assert!((4..tokens - 5).contains(&from), "scored from token {from} of {tokens}");
    let perplexity = (-score(1) / (tokens - from) as f64).exp();
    assert_close(&[samples[1]["perplexity"].as_f64().unwrap()], &[perplexity], 1e-9, "perplexity");
}
