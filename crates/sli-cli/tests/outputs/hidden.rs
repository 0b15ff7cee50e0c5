//! Hidden states: which layers, in which dtype, per token or pooled.

use sli_tests::command::Workplace;
use sli_tests::golden::case;
use sli_tests::tensors::{Values, read_folder};

use crate::{assert_close, assert_tensors, workplace};

/// Rows of the golden records, 20 of width 32, in two samples.
const ROWS: usize = 20;
const WIDTH: usize = 32;

fn folders(work: &Workplace, output: &str) -> Vec<String> {
    let entries = std::fs::read_dir(work.path(output).join("hidden")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn hidden(work: &Workplace, output: &str, name: &str) -> Values {
    read_folder(&work.path(output).join("hidden").join(name), "hidden_states")
}

fn offsets(work: &Workplace, output: &str, name: &str) -> Vec<usize> {
    read_folder(&work.path(output).join("hidden").join(name), "offsets").indices()
}

#[test]
fn all_layers_with_names_dtypes_and_offsets() {
    let work = workplace("llama");
    work.run_records("out", "--hidden-states all");
    assert_eq!(folders(&work, "out"), ["embedding", "final", "layer_0000", "layer_0001", "layer_0002"]);
    let expected = case("llama").expected();
    for name in folders(&work, "out") {
        let part = work.path("out").join("hidden").join(&name).join("part-00000.safetensors");
        assert_tensors(&part, &[("hidden_states", "F32", &[ROWS, WIDTH]), ("offsets", "I64", &[3])]);
        assert_eq!(offsets(&work, "out", &name), expected["offsets"].indices());
    }
    case("llama").compare(&work.path("out")).unwrap();
}

#[test]
fn encoder_decoders_have_prefixes() {
    let work = workplace("t5_relu");
    work.run_records("out", "--hidden-states 0");
    assert_eq!(folders(&work, "out"), ["decoder_layer_0000", "encoder_layer_0000"]);
    work.run_records("default", "");
    assert_eq!(folders(&work, "default"), ["decoder_final", "encoder_final"]);
    assert_eq!(
        offsets(&work, "default", "decoder_final"),
        case("t5_relu").expected()["decoder_offsets"].indices()
    );
}

#[test]
fn some_layers() {
    let work = workplace("llama");
    work.run_records("all", "--hidden-states all");
    for (list, names) in [
        ("0,-1", &["layer_0000", "layer_0002"][..]),
        ("1..2", &["layer_0001", "layer_0002"]),
        ("-3..-2", &["layer_0000", "layer_0001"]),
        ("final", &["final"]),
    ] {
        let output = format!("layers {list}");
        work.run_records(&output, &format!("--hidden-states {list}"));
        assert_eq!(folders(&work, &output), names);
        for name in names {
            assert_eq!(hidden(&work, &output, name), hidden(&work, "all", name), "{list}: {name}");
        }
    }
    work.run_records("none", "--hidden-states none");
    assert!(!work.path("none/hidden").exists());
}

#[test]
fn pooling_keeps_a_row_per_sample() {
    let work = workplace("llama");
    work.run_records("all", "");
    let (rows, offsets) = (hidden(&work, "all", "final"), offsets(&work, "all", "final"));
    let row = |index: usize| rows.values[index * WIDTH..(index + 1) * WIDTH].to_vec();
    let mean = |sample: &[usize]| -> Vec<f64> {
        let count = (sample[1] - sample[0]) as f64;
        (0..WIDTH)
            .map(|c| (sample[0]..sample[1]).map(|r| rows.values[r * WIDTH + c]).sum::<f64>() / count)
            .collect()
    };
    let samples = || offsets.windows(2);
    let expected = [
        ("mean", samples().flat_map(mean).collect::<Vec<_>>()),
        ("last", samples().flat_map(|sample| row(sample[1] - 1)).collect()),
        ("cls", samples().flat_map(|sample| row(sample[0])).collect()),
    ];
    for (pool, expected) in expected {
        work.run_records(pool, &format!("--pool {pool}"));
        let part = work.path(pool).join("hidden/final/part-00000.safetensors");
        assert_tensors(&part, &[("hidden_states", "F32", &[2, WIDTH]), ("offsets", "I64", &[3])]);
        assert_close(&hidden(&work, pool, "final").values, &expected, 1e-6, pool);
        assert_eq!(self::offsets(&work, pool, "final"), [0, 1, 2]);
    }
}

#[test]
fn narrow_dtypes_are_the_rounded_values() {
    let work = workplace("llama");
    work.run_records("f32", "");
    let exact = hidden(&work, "f32", "final").values;
    for (dtype, name, half_step) in [("bf16", "BF16", 1.0 / 256.0), ("f16", "F16", 1.0 / 2048.0)] {
        work.run_records(dtype, &format!("--hidden-dtype {dtype}"));
        let part = work.path(dtype).join("hidden/final/part-00000.safetensors");
        assert_tensors(&part, &[("hidden_states", name, &[ROWS, WIDTH]), ("offsets", "I64", &[3])]);
        for (rounded, exact) in hidden(&work, dtype, "final").values.iter().zip(&exact) {
            // The last term is for values below the smallest normal number of f16.
            assert!(
                (rounded - exact).abs() <= exact.abs() * half_step + 6e-8,
                "{dtype}: {rounded} for {exact}"
            );
        }
    }
}

#[test]
fn bf16_weights_make_a_bf16_run() {
    let work = workplace("llama_bf16");
    let result = work.run_records("auto", "");
    assert_eq!(result["report"]["dtype"], "bf16");
    let part = work.path("auto/hidden/final/part-00000.safetensors");
    assert_tensors(&part, &[("hidden_states", "BF16", &[ROWS, WIDTH]), ("offsets", "I64", &[3])]);
    work.run_records("f32", "--dtype f32");
    assert_close(&hidden(&work, "auto", "final").values, &hidden(&work, "f32", "final").values, 0.03, "bf16");
}

#[test]
fn batch_size_and_placement_change_nothing_beyond_rounding() {
    for case in ["llama", "mixtral", "t5_relu"] {
        let work = workplace(case);
        work.run_records("default", "--hidden-states all --logits full");
        for (output, options) in [("one", "--batch-size 1"), ("disk", "--activations disk --prefetch 0")] {
            work.run_records(output, &format!("--hidden-states all --logits full {options}"));
            for name in folders(&work, "default") {
                let found = hidden(&work, output, &name).values;
                assert_close(
                    &found,
                    &hidden(&work, "default", &name).values,
                    1e-5,
                    &format!("{case} {output} {name}"),
                );
            }
            let logits = |output: &str| read_folder(&work.path(output).join("logits"), "logits").values;
            assert_close(&logits(output), &logits("default"), 1e-5, &format!("{case} {output} logits"));
        }
    }
}
