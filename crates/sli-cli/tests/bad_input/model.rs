//! Checkpoints that are damaged, incomplete, or of another model.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sli_tests::command::Workplace;

use crate::{assert_mentions, refused, workplace};

const UP: &str = "model.layers.1.mlp.up_proj.weight";

/// A safetensors file taken apart.
struct Weights {
    path: PathBuf,
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Weights {
    fn of(work: &Workplace) -> Self {
        let path = work.model().join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
        Self { path, header, data: bytes[8 + header_bytes..].to_vec() }
    }

    fn offsets(&self, name: &str) -> (usize, usize) {
        serde_json::from_value(self.header[name]["data_offsets"].clone()).unwrap()
    }

    fn remove(&mut self, name: &str) {
        let (begin, end) = self.offsets(name);
        self.header.shift_remove(name);
        self.data.drain(begin..end);
        for tensor in self.header.values_mut() {
            let (from, to): (usize, usize) = serde_json::from_value(tensor["data_offsets"].clone()).unwrap();
            if from >= end {
                tensor["data_offsets"] = json!([from - (end - begin), to - (end - begin)]);
            }
        }
    }

    fn add(&mut self, name: &str, floats: usize) {
        let begin = self.data.len();
        self.data.extend(vec![0; 4 * floats]);
        let tensor = json!({"dtype": "F32", "shape": [floats], "data_offsets": [begin, self.data.len()]});
        self.header.insert(name.into(), tensor);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut header = serde_json::to_vec(&self.header).unwrap();
        header.resize(header.len().next_multiple_of(8), b' ');
        [&(header.len() as u64).to_le_bytes()[..], &header, &self.data].concat()
    }

    fn write(&self) {
        fs::write(&self.path, self.bytes()).unwrap();
    }
}

/// Refuses the golden llama after a change to its weights.
fn refused_after(change: impl FnOnce(&mut Weights)) -> String {
    let work = workplace("llama");
    let mut weights = Weights::of(&work);
    change(&mut weights);
    weights.write();
    refused(&work, "")
}

/// Refuses the golden llama with other bytes in its weight file.
fn refused_bytes(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let work = workplace("llama");
    let weights = Weights::of(&work);
    let mut bytes = weights.bytes();
    change(&mut bytes);
    fs::write(&weights.path, bytes).unwrap();
    refused(&work, "")
}

#[test]
fn a_missing_tensor_is_named() {
    let complaint = refused_after(|weights| weights.remove(UP));
    assert_mentions(&complaint, &[&format!("tensor '{UP}' is missing"), "layer 1", "hint: "]);
}

#[test]
fn a_surplus_tensor_is_named() {
    let complaint = refused_after(|weights| weights.add("model.layers.1.mlp.side_proj.weight", 8));
    assert_mentions(&complaint, &["model.layers.1.mlp.side_proj.weight", "not used"]);
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    let complaint = refused_after(|weights| weights.header[UP]["shape"] = json!([32, 48]));
    assert_mentions(&complaint, &[UP, "[32, 48]", "[48, 32]"]);
}

#[test]
fn a_dtype_that_is_no_weight_is_named() {
    let complaint = refused_after(|weights| weights.header[UP]["dtype"] = json!("U32"));
    assert_mentions(&complaint, &[UP, "U32"]);
}

#[test]
fn a_truncated_file_is_called_so() {
    let length = Weights::of(&workplace("llama")).bytes().len();
    for kept in [length - 1, length / 2] {
        assert_mentions(
            &refused_bytes(|bytes| bytes.truncate(kept)),
            &["model.safetensors is truncated", "fetch it"],
        );
    }
    for kept in [0, 7, 8, 200] {
        assert_mentions(&refused_bytes(|bytes| bytes.truncate(kept)), &["model.safetensors is truncated"]);
    }
}

#[test]
fn a_header_length_that_lies_is_not_believed() {
    let header_bytes =
        |length: u64| move |bytes: &mut Vec<u8>| bytes[..8].copy_from_slice(&length.to_le_bytes());
    for length in [0, 8, 100, 90_000_000, 1 << 40, u64::MAX - 7, u64::MAX] {
        assert_mentions(&refused_bytes(header_bytes(length)), &["model.safetensors"]);
    }
}

#[test]
fn offsets_that_lie_are_not_believed() {
    for offsets in
        [json!([0, 8]), json!([16, 8]), json!([1u64 << 60, (1u64 << 60) + 6144]), json!([0, u64::MAX])]
    {
        let complaint = refused_after(|weights| weights.header[UP]["data_offsets"] = offsets.clone());
        assert_mentions(&complaint, &["model.safetensors"]);
    }
    let complaint = refused_after(|weights| weights.header[UP]["shape"] = json!([1u64 << 40, 1u64 << 40]));
    assert_mentions(&complaint, &[UP, "larger than any file"]);
}

#[test]
fn bytes_behind_the_tensors_are_not_ignored() {
    assert_mentions(&refused_bytes(|bytes| bytes.extend([1; 40])), &["40 bytes belong to no tensor"]);
}

#[test]
fn what_a_git_clone_leaves_is_recognized() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    let complaint = refused_bytes(|bytes| *bytes = pointer.as_bytes().to_vec());
    assert_mentions(&complaint, &["git lfs pull"]);
}

/// A llama whose only file is a shard; returns what its index has to say of that.
fn sharded(work: &Workplace) -> (PathBuf, Map<String, Value>) {
    let weights = Weights::of(work);
    let shard = "model-00001-of-00001.safetensors";
    fs::rename(&weights.path, work.model().join(shard)).unwrap();
    let map = weights.header.keys().map(|name| (name.clone(), json!(shard))).collect();
    (work.model().join("model.safetensors.index.json"), map)
}

fn write_index(path: &Path, weight_map: &Map<String, Value>) {
    fs::write(path, json!({"metadata": {}, "weight_map": weight_map}).to_string()).unwrap();
}

#[test]
fn an_index_may_not_lead_out_of_the_directory() {
    let work = workplace("llama");
    let (index, map) = sharded(&work);
    let outside = work.write("outside.safetensors", "x");
    for name in ["../outside.safetensors", outside.to_str().unwrap(), "a/../../outside.safetensors", "..", ""]
    {
        let mut map = map.clone();
        map[UP] = json!(name);
        write_index(&index, &map);
        assert_mentions(&refused(&work, ""), &["index.json", "no file of this directory"]);
    }
}

#[test]
fn an_index_has_to_agree_with_its_shards() {
    let work = workplace("llama");
    let (index, map) = sharded(&work);
    let mut missing = map.clone();
    missing[UP] = json!("model-00002-of-00002.safetensors");
    write_index(&index, &missing);
    assert_mentions(&refused(&work, ""), &["model-00002-of-00002.safetensors is not there"]);

    let mut unknown = map.clone();
    unknown.insert("model.layers.9.weight".into(), json!("model-00001-of-00001.safetensors"));
    write_index(&index, &unknown);
    assert_mentions(&refused(&work, ""), &["'model.layers.9.weight' is not in"]);

    for text in ["", "{", "[]", r#"{"weight_map": {}}"#, r#"{"weight_map": 3}"#] {
        fs::write(&index, text).unwrap();
        assert_mentions(&refused(&work, ""), &["index.json"]);
    }
    write_index(&index, &map);
    work.run_records("whole", "");
}

#[test]
fn other_kinds_of_weights_are_refused_with_what_to_do() {
    let work = workplace("llama");
    fs::rename(work.model().join("model.safetensors"), work.model().join("pytorch_model.bin")).unwrap();
    assert_mentions(&refused(&work, ""), &["pytorch_model.bin", "safetensors"]);
    fs::remove_file(work.model().join("pytorch_model.bin")).unwrap();
    assert_mentions(&refused(&work, ""), &["no weights in"]);
}
