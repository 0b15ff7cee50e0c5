//! The weights of golden cases: a function of each tensor's name and shape, so that none need storing.
//!
//! `xtask/golden/weights.py` is the same function in Python and states its rules; the values in
//! `tests/golden/weights.fixture.json`, made there, hold the two together.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Map, Value, json};

/// Step of the SplitMix64 generator.
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The float32 values of the tensor `name` of this shape, row-major.
pub fn weight_values(name: &str, shape: &[usize]) -> Vec<f32> {
    let drawn = uniform(name, shape.iter().product());
    let norm = [".weight", ".gamma", ".weight_scale"].iter().any(|end| name.ends_with(end));
    match shape {
        _ if name.ends_with("A_log") => drawn.collect(),
        [] | [_] if norm => drawn.map(|v| v * 0.25 + 1.0).collect(),
        [] | [_] => drawn.map(|v| v * 0.25).collect(),
        _ if is_embedding(name) => drawn.map(|v| v * 0.5).collect(),
        [.., fan_in] => {
            let amplitude = amplitude(*fan_in);
            drawn.map(|v| v * amplitude).collect()
        }
    }
}

/// Writes `dir/model.safetensors`: every tensor that `tensors_json` names, with its golden weights.
///
/// `tensors_json` is a golden case's `{name: {"dtype", "shape"}}`. Floats are rounded to nearest even; an integer
/// tensor counts up from 0, in a table of four experts again and again.
///
/// # Errors
/// When a file cannot be read or written, or `tensors_json` is not of that form.
pub fn write_checkpoint(dir: &Path, tensors_json: &Path) -> io::Result<()> {
    let tensors: Map<String, Value> = serde_json::from_slice(&fs::read(tensors_json)?)?;
    let mut header = Map::new();
    let mut data = Vec::new();
    for (name, tensor) in &tensors {
        let dtype = tensor["dtype"].as_str().ok_or_else(|| malformed(name, tensor))?;
        let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone())?;
        let begin = data.len();
        data.extend(stored_bytes(name, dtype, &shape).ok_or_else(|| malformed(name, tensor))?);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' '); // the data begins aligned

    let mut file = BufWriter::new(File::create(dir.join("model.safetensors"))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    file.write_all(&data)?;
    file.flush()
}

/// The little-endian bytes of a tensor as a checkpoint stores it; nothing for a dtype that no case uses.
fn stored_bytes(name: &str, dtype: &str, shape: &[usize]) -> Option<Vec<u8>> {
    let values = || weight_values(name, shape).into_iter();
    Some(match dtype {
        "F32" => values().flat_map(f32::to_le_bytes).collect(),
        "BF16" => values().flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect(),
        "F16" => values().flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
        "I64" => {
            // A table of experts names four of them in turn.
            let count = if name.ends_with("tid2eid") { 4 } else { i64::MAX };
            (0..shape.iter().product::<usize>() as i64).flat_map(|i| (i % count).to_le_bytes()).collect()
        }
        // Four numbers 0, 1 or 2 of 2 bits each.
        "U8" => uniform(name, shape.iter().product())
            .map(|v| {
                let drawn = ((v + 1.0) * 2f32.powi(23)) as u32;
                (0..4).map(|i| (drawn / 3u32.pow(i) % 3) << (2 * i)).sum::<u32>() as u8
            })
            .collect(),
        _ => return None,
    })
}

/// `count` values in [-1, 1) drawn for `name`: the top 24 bits of SplitMix64, which float32 holds exactly.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let mut state = fnv1a(name);
    (0..count).map(move |_| {
        state = state.wrapping_add(GOLDEN_GAMMA);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let z = z ^ (z >> 31);
        (z >> 40) as f32 * 0.5f32.powi(23) - 1.0
    })
}

/// FNV-1a, 64 bits, of the name's UTF-8 bytes.
fn fnv1a(name: &str) -> u64 {
    name.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// The power of two, at most 1, whose square times `fan_in` is nearest to 3 (in ratio).
fn amplitude(fan_in: usize) -> f32 {
    let mut value = 1.0;
    while value * value * fan_in as f32 > 6.0 {
        value /= 2.0;
    }
    value
}

/// Whether a matrix of this name is looked up by row.
fn is_embedding(name: &str) -> bool {
    ["embed", "wte", "wpe"].iter().any(|word| name.contains(word))
        || name == "shared.weight"
        || name.ends_with(".shared.weight")
}

fn malformed(name: &str, tensor: &Value) -> io::Error {
    io::Error::other(format!(
        "tensor '{name}' is described by {tensor}, expected a dtype of golden cases and a shape"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stored bits of a little-endian element, sign-extended.
    fn signed(element: &[u8]) -> i64 {
        match *element {
            [a] => (a as i8).into(),
            [a, b] => i16::from_le_bytes([a, b]).into(),
            [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
            _ => i64::from_le_bytes(element.try_into().unwrap()),
        }
    }

    #[test]
    fn values_are_those_of_the_python_twin() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/weights.fixture.json");
        let fixture: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert!(!fixture.is_empty());
        for tensor in fixture {
            let (name, dtype) = (tensor["name"].as_str().unwrap(), tensor["dtype"].as_str().unwrap());
            let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
            let bytes = stored_bytes(name, dtype, &shape).unwrap();
            let count = shape.iter().product::<usize>();
            let bits: Vec<i64> = bytes.chunks(bytes.len() / count).map(signed).collect();
            assert_eq!(json!(bits), tensor["bits"], "{name}");
        }
    }

    #[test]
    fn the_checkpoint_is_a_safetensors_file() {
        let dir = std::env::temp_dir().join(format!("golden-weights-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let tensors = dir.join("tensors.json");
        let text = r#"{"norm.weight": {"dtype": "BF16", "shape": [3]}, "lm_head.weight": {"dtype": "F32", "shape": [2, 4]}}"#;
        fs::write(&tensors, text).unwrap();
        write_checkpoint(&dir, &tensors).unwrap();
        let bytes = fs::read(dir.join("model.safetensors")).unwrap();
        fs::remove_dir_all(&dir).unwrap();

        let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(header_len % 8, 0);
        let header: Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
        assert_eq!(header["norm.weight"]["data_offsets"], json!([0, 6]));
        let head = &header["lm_head.weight"];
        assert_eq!(*head, json!({"dtype": "F32", "shape": [2, 4], "data_offsets": [6, 38]}));
        let data = &bytes[8 + header_len..];
        assert_eq!(data.len(), 38);
        assert_eq!(data[6..10], weight_values("lm_head.weight", &[2, 4])[0].to_le_bytes());
    }

    #[test]
    fn an_unknown_dtype_is_named() {
        let path = std::env::temp_dir().join(format!("golden-tensors-{}.json", std::process::id()));
        fs::write(&path, r#"{"norm.weight": {"dtype": "F8", "shape": [3]}}"#).unwrap();
        let error = write_checkpoint(&std::env::temp_dir(), &path).unwrap_err().to_string();
        fs::remove_file(&path).unwrap();
        assert!(error.contains("'norm.weight'") && error.contains("F8"), "{error}");
    }
}
