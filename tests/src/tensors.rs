//! Tensors in files, as plain vectors.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// A tensor as f64, whatever it is stored in. Exact for all dtypes that outputs have.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Vec<f64>,
}

impl Values {
    /// The elements as indices.
    pub fn indices(&self) -> Vec<usize> {
        self.values.iter().map(|value| *value as usize).collect()
    }
}

/// All tensors of a safetensors file.
///
/// # Panics
/// When the file cannot be read: a test ends there.
pub fn read_file(path: &Path) -> BTreeMap<String, Values> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let tensors = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    tensors
        .iter()
        .map(|(name, view)| (name.to_string(), decode(view.dtype(), view.shape(), view.data())))
        .collect()
}

/// A column of an output folder: the rows of all its parts, one after another.
///
/// # Panics
/// When the folder holds no parts, or not this column.
pub fn read_folder(folder: &Path, column: &str) -> Values {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut parts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    parts.sort();
    let mut all: Option<Values> = None;
    for part in parts {
        let mut tensors = read_file(&part);
        let next = tensors.remove(column).unwrap_or_else(|| panic!("{}: no {column}", part.display()));
        match &mut all {
            None => all = Some(next),
            Some(all) => {
                all.shape[0] += next.shape[0];
                all.values.extend(next.values);
            }
        }
    }
    all.unwrap_or_else(|| panic!("{}: no parts", folder.display()))
}

fn decode(dtype: Dtype, shape: &[usize], data: &[u8]) -> Values {
    let values = match dtype {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::I32 => data.as_chunks::<4>().0.iter().map(|b| f64::from(i32::from_le_bytes(*b))).collect(),
        Dtype::I64 => data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        Dtype::BF16 => {
            data.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f64()).collect()
        }
        Dtype::F16 => data.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f64()).collect(),
        other => panic!("{other:?} in a test"),
    };
    Values { shape: shape.to_vec(), values }
}
