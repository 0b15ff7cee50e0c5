//! Small checkpoints for tests.

use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};

/// A tensor to write: name, dtype, shape, bytes.
pub(crate) struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A tensor of f32.
pub(crate) fn f32s(name: &str, shape: &[usize], values: &[f32]) -> Stored {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Stored { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), bytes }
}

/// A tensor of f32 whose element `i` is `start + i`.
pub(crate) fn counted(name: &str, shape: &[usize], start: f32) -> Stored {
    let values: Vec<_> = (0..shape.iter().product()).map(|i: usize| start + i as f32).collect();
    f32s(name, shape, &values)
}

/// A tensor of any dtype, from its bytes.
pub(crate) fn raw(name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Stored {
    Stored { name: name.into(), dtype, shape: shape.to_vec(), bytes }
}

/// Writes a safetensors file with the crate that everyone uses.
pub(crate) fn write(path: &Path, tensors: &[Stored]) {
    let views = tensors
        .iter()
        .map(|t| (&t.name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).expect("sizes fit")));
    fs::write(path, serialize(views, None).expect("serializable")).expect("writable");
}
