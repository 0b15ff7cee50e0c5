//! What a run leaves in its output directory.

mod hidden;
mod input;
mod logits;
mod reports;
mod stats;

use std::path::Path;

use serde_json::{Value, json};
use sli_tests::command::Workplace;

fn workplace(case: &str) -> Workplace {
    Workplace::new(env!("CARGO_BIN_EXE_sli-cli"), case)
}

/// The header of a safetensors file: dtype and shape by tensor.
fn header(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&bytes[8..8 + length]).unwrap()
}

/// Checks dtype and shape of every tensor of a file.
#[track_caller]
fn assert_tensors(path: &Path, expected: &[(&str, &str, &[usize])]) {
    let header = header(path);
    let names: Vec<_> = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__").collect();
    assert_eq!(names.len(), expected.len(), "{}: {names:?}", path.display());
    for (name, dtype, shape) in expected {
        let found = (&header[name]["dtype"], &header[name]["shape"]);
        assert_eq!(found, (&json!(dtype), &json!(shape)), "{}: {name}", path.display());
    }
}

/// Are these values the same within `tolerance` times the largest magnitude?
#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}, element {index}: {a} instead of {b}");
    }
}

/// ln of the sum of the exponentials.
fn log_sum_exp(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + values.iter().map(|v| (v - most).exp()).sum::<f64>().ln()
}
