//! Opening checkpoints: good ones are read, hostile ones end in a typed error.

mod common;

use std::fs;
use std::path::Path;

use common::{counted, raw, write};
use safetensors::Dtype as FileDtype;
use sli_core::{Dtype, SliError, TensorSource, WeightError};
use sli_weights::Checkpoint;
use tempfile::{TempDir, tempdir};

/// The message of the header error that opening must end in.
fn header_error(directory: &Path) -> String {
    match Checkpoint::open(directory) {
        Err(SliError::WeightLoading(WeightError::Header { message, .. })) => message,
        other => panic!("expected a header error, got {other:?}"),
    }
}

/// A directory with one file: a length, a header and `data` bytes of zeros.
fn file_with(header_bytes: u64, header: &str, data: usize) -> TempDir {
    let directory = tempdir().unwrap();
    let mut bytes = header_bytes.to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    directory
}

fn message_for(header: &str, data: usize) -> String {
    header_error(file_with(header.len() as u64, header, data).path())
}

#[test]
fn tensors_are_described_and_read() {
    let directory = tempdir().unwrap();
    let tensors = [
        counted("b", &[2, 3], 1.0),
        raw("a", FileDtype::I16, &[3], vec![0; 6]),
        counted("empty", &[0, 4], 0.0),
    ];
    write(&directory.path().join("model.safetensors"), &tensors);
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert_eq!(checkpoint.describe("b"), Some((Dtype::F32, vec![2, 3])));
    assert_eq!(checkpoint.read("b").unwrap().elements::<f32>(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(checkpoint.read("empty").unwrap().is_empty());
    assert_eq!(checkpoint.describe("a"), None);
    let error = checkpoint.read("a").unwrap_err();
    assert!(matches!(error, SliError::WeightLoading(WeightError::Dtype { .. })), "{error}");
    let error = checkpoint.read("c").unwrap_err();
    assert!(matches!(error, SliError::WeightLoading(WeightError::Missing { .. })), "{error}");
    assert_eq!(checkpoint.names().len(), 3);
    assert_eq!(checkpoint.bytes(), 30);
}

#[test]
fn oddly_placed_tensors_are_read_aligned() {
    let header = r#"{"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"y":{"dtype":"F64","shape":[1],"data_offsets":[3,11]}}"#;
    let directory = file_with(header.len() as u64, header, 11);
    assert_eq!(Checkpoint::open(directory.path()).unwrap().read("y").unwrap().elements::<f64>(), [0.0]);
}

#[test]
fn a_single_file_of_any_name_will_do() {
    let directory = tempdir().unwrap();
    write(&directory.path().join("weights.safetensors"), &[counted("x", &[1], 0.0)]);
    assert_eq!(Checkpoint::open(directory.path()).unwrap().names(), ["x"]);
    write(&directory.path().join("more.safetensors"), &[counted("y", &[1], 0.0)]);
    assert!(header_error(directory.path()).contains("2 .safetensors files"));
}

#[test]
fn without_weights_the_error_says_what_is_read() {
    let directory = tempdir().unwrap();
    let error = Checkpoint::open(directory.path()).unwrap_err();
    assert!(matches!(error, SliError::WeightLoading(WeightError::NoWeights { .. })));
    fs::write(directory.path().join("pytorch_model.bin"), "pickle").unwrap();
    assert!(header_error(directory.path()).contains("only safetensors weights are read"));
}

#[test]
fn truncated_files_say_what_they_lack() {
    let lengths = |directory: &TempDir| match Checkpoint::open(directory.path()) {
        Err(SliError::WeightLoading(WeightError::Truncated { found, expected, .. })) => (found, expected),
        other => panic!("expected a truncated file, got {other:?}"),
    };
    let header = r#"{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    let n = header.len() as u64;
    assert_eq!(lengths(&file_with(n, header, 9)), (8 + n + 9, 8 + n + 16));
    assert_eq!(lengths(&file_with(1000, "{}", 0)), (10, 1008));
    let empty = tempdir().unwrap();
    fs::write(empty.path().join("model.safetensors"), [1, 2, 3]).unwrap();
    assert_eq!(lengths(&empty), (3, 8));
}

#[test]
fn headers_that_are_none_are_refused() {
    assert!(header_error(file_with(100_000_001, "{}", 0).path()).contains("100000001 bytes"));
    assert!(header_error(file_with(u64::MAX, "{}", 0).path()).contains("not a safetensors file"));
    for header in ["", "[]", "not json", "{", r#"{"x":1}"#, r#"{"x":{}}"#, "\"x\"", "{}x", "\u{0}{}"] {
        assert!(message_for(header, 0).contains("not what the format asks for"), "{header}");
    }
    let deep = "[".repeat(100_000);
    assert!(message_for(&format!(r#"{{"__metadata__":{deep}"#), 0).contains("not what the format asks for"));
}

#[test]
fn a_git_lfs_pointer_is_recognised() {
    let directory = tempdir().unwrap();
    let pointer = "version https://git-lfs.example/spec/v1\noid sha256:00\nsize 1\n";
    fs::write(directory.path().join("model.safetensors"), pointer).unwrap();
    assert!(header_error(directory.path()).contains("Git LFS"));
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let entry = |name: &str, dtype: &str, shape: &str, begin: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    let one = |dtype: &str, shape: &str, begin, end| format!("{{{}}}", entry("x", dtype, shape, begin, end));
    for (header, data, expected) in [
        (one("F99", "[1]", 0, 4), 4, "unknown dtype 'F99'"),
        (one("F32", "[2]", 0, 4), 4, "4 bytes instead of 8"),
        (one("F32", "[1]", 4, 0), 4, "impossible offsets"),
        (one("F32", "[1]", u64::MAX - 3, u64::MAX), 4, "impossible offsets"),
        (one("F32", "[4294967296, 4294967296]", 0, 4), 4, "larger than any file"),
        (one("F32", "[18446744073709551615]", 0, 4), 4, "larger than any file"),
        (one("F32", "[-1]", 0, 4), 4, "not what the format asks for"),
        (one("F32", "[1.5]", 0, 4), 4, "not what the format asks for"),
        (one("F4", "[1]", 0, 0), 0, "no whole number of bytes"),
        (one("F32", "[1]", 4, 8), 8, "leaves a hole"),
        (one("F32", "[1]", 0, 4), 6, "2 bytes belong to no tensor"),
        (
            format!("{{{},{}}}", entry("x", "F32", "[2]", 0, 8), entry("y", "F32", "[1]", 4, 8)),
            8,
            "'y' overlaps",
        ),
        (
            format!("{{{},{}}}", entry("x", "F32", "[1]", 0, 4), entry("x", "F32", "[1]", 4, 8)),
            8,
            "'x' comes twice",
        ),
    ] {
        let message = message_for(&header, data);
        assert!(message.contains(expected), "{header}: {message}");
    }
}

/// Two shards and an index, whose text is given.
fn sharded(index: &str) -> TempDir {
    let directory = tempdir().unwrap();
    write(&directory.path().join("1.safetensors"), &[counted("x", &[2], 0.0)]);
    write(&directory.path().join("2.safetensors"), &[counted("y", &[2], 5.0)]);
    fs::write(directory.path().join("model.safetensors.index.json"), index).unwrap();
    directory
}

#[test]
fn shards_are_read_through_their_index() {
    let directory = sharded(r#"{"metadata":{},"weight_map":{"x":"1.safetensors","y":"2.safetensors"}}"#);
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert_eq!(checkpoint.names(), ["x", "y"]);
    assert_eq!(checkpoint.read("y").unwrap().elements::<f32>(), [5.0, 6.0]);
}

#[test]
fn a_linked_shard_is_fine() {
    let directory = sharded(r#"{"weight_map":{"x":"1.safetensors","y":"linked.safetensors"}}"#);
    let elsewhere = tempdir().unwrap();
    fs::rename(directory.path().join("2.safetensors"), elsewhere.path().join("blob")).unwrap();
    let link = directory.path().join("linked.safetensors");
    std::os::unix::fs::symlink(elsewhere.path().join("blob"), link).unwrap();
    assert_eq!(Checkpoint::open(directory.path()).unwrap().names().len(), 2);
}

#[test]
fn an_index_may_not_lead_astray() {
    let absolute = format!(r#"{{"weight_map":{{"x":"{}"}}}}"#, "/etc/hostname");
    for (index, expected) in [
        ("", "EOF"),
        ("{}", "weight_map"),
        (r#"{"weight_map":{}}"#, "no tensors"),
        (r#"{"weight_map":{"x":"../1.safetensors"}}"#, "no file of this directory"),
        (r#"{"weight_map":{"x":"a/../../1.safetensors"}}"#, "no file of this directory"),
        (r#"{"weight_map":{"x":""}}"#, "no file of this directory"),
        (&absolute, "no file of this directory"),
        (r#"{"weight_map":{"x":"3.safetensors"}}"#, "is not there"),
        (r#"{"weight_map":{"y":"1.safetensors"}}"#, "'y' is not in"),
        (r#"{"weight_map":{"x":"2.safetensors","y":"1.safetensors"}}"#, "'x' is not in"),
    ] {
        let message = header_error(sharded(index).path());
        assert!(message.contains(expected), "{index}: {message}");
    }
}

#[test]
fn a_name_in_two_shards_is_refused() {
    let directory = sharded(r#"{"weight_map":{"x":"1.safetensors","y":"2.safetensors"}}"#);
    let both = [counted("y", &[2], 5.0), counted("x", &[2], 0.0)];
    write(&directory.path().join("2.safetensors"), &both);
    assert!(header_error(directory.path()).contains("'x' is also in"));
}
