//! Stored chunks that are not what they should be: always an error that names the chunk, never a wrong number.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use sli_cache::*;
use sli_core::SliError;
use tempfile::TempDir;

/// Bytes of the header block of a slot.
const BLOCK: u64 = 4096;
/// Bytes of a slot for four tokens of two values: a header block and one of values.
const SLOT: u64 = 2 * BLOCK;

fn chunk(seed: usize) -> ChunkState {
    let rows = |width| Rows::new(width, (0..4 * width).map(|i| (seed * 100 + i) as f32).collect());
    ChunkState { hidden: rows(1), carry: vec![Carry { name: "first values".into(), rows: rows(1) }] }
}

/// A store of four chunks in each generation, all of them put and synced.
fn spilled() -> (TempDir, SpilledStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = SpilledStore::create(dir.path(), &SlotLayout::from_tokens(&[4; 4], 8)).unwrap();
    for i in 0..4 {
        store.put(Generation::Even, i, chunk(i)).unwrap();
        store.put(Generation::Odd, i, chunk(10 + i)).unwrap();
    }
    store.sync().unwrap();
    (dir, store)
}

fn even(dir: &TempDir) -> PathBuf {
    dir.path().join("sli-even.spill")
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

#[track_caller]
fn chunk_error(result: sli_core::Result<ChunkState>) -> ChunkError {
    let error = result.unwrap_err();
    let SliError::Io { source, .. } = &error else { panic!("{error}") };
    source.get_ref().and_then(|source| source.downcast_ref()).cloned().unwrap_or_else(|| panic!("{error}"))
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let (dir, store) = spilled();
    let good = fs::read(even(&dir)).unwrap();
    let record = 2 * SLOT as usize..2 * SLOT as usize + BLOCK as usize + 32;
    // The header's zeros after its text mean nothing.
    let text_end = record.start + good[record.clone()].iter().position(|byte| *byte == b'}').unwrap();
    let meaningful = (record.start..=text_end).chain(record.end - 32..record.end);
    for at in meaningful {
        overwrite(&even(&dir), at as u64, &[good[at] ^ 0x10]);
        let error = chunk_error(store.get(Generation::Even, 2));
        assert!(
            matches!(error, ChunkError::Damaged { .. } | ChunkError::Foreign { .. }),
            "byte {at}: {error}"
        );
        overwrite(&even(&dir), at as u64, &[good[at]]);
    }
    assert_eq!(store.get(Generation::Even, 2).unwrap(), chunk(2));
}

#[test]
fn a_write_that_was_cut_off_is_found() {
    let (dir, store) = spilled();
    // The new header over the old values, as when a write stops between the two.
    let other = fs::read(even(&dir)).unwrap();
    store.put(Generation::Even, 1, chunk(7)).unwrap();
    let values = SLOT as usize + BLOCK as usize..2 * SLOT as usize;
    overwrite(&even(&dir), values.start as u64, &other[values]);
    assert!(matches!(chunk_error(store.get(Generation::Even, 1)), ChunkError::Damaged { chunk: 1, .. }));
    // And a file that ends too early.
    OpenOptions::new().write(true).open(even(&dir)).unwrap().set_len(3 * SLOT + BLOCK + 5).unwrap();
    assert!(matches!(chunk_error(store.get(Generation::Even, 3)), ChunkError::Damaged { chunk: 3, .. }));
    assert_eq!(store.get(Generation::Even, 2).unwrap(), chunk(2));
}

#[test]
fn another_chunk_in_its_place_is_found() {
    let (dir, store) = spilled();
    let file = fs::read(even(&dir)).unwrap();
    overwrite(&even(&dir), 0, &file[SLOT as usize..2 * SLOT as usize]);
    let error = chunk_error(store.get(Generation::Even, 0));
    assert!(matches!(error, ChunkError::Foreign { chunk: 0, .. }), "{error}");
    assert!(error.to_string().contains("chunk 1 of generation 'even'"), "{error}");

    fs::copy(dir.path().join("sli-odd.spill"), even(&dir)).unwrap();
    assert!(matches!(chunk_error(store.get(Generation::Even, 1)), ChunkError::Foreign { .. }));

    fs::write(even(&dir), vec![7; 4 * SLOT as usize]).unwrap();
    assert!(matches!(chunk_error(store.get(Generation::Even, 1)), ChunkError::Foreign { .. }));
}

#[test]
fn a_chunk_larger_than_its_slot_is_refused() {
    let (_dir, store) = spilled();
    let error = store.put(Generation::Even, 1, ChunkState::new(Rows::new(3, vec![0.0; 9]))).unwrap_err();
    assert!(error.to_string().contains("has 36B of values, its slot holds 32B"), "{error}");
    let error = store.put(Generation::Even, 4, chunk(4)).unwrap_err();
    assert!(error.to_string().contains("chunk 4 of generation 'even' has 32B of values, its slot holds 0B"));
    assert_eq!(store.get(Generation::Even, 1).unwrap(), chunk(1));
}

#[test]
fn names_longer_than_a_header_are_refused() {
    let (_dir, store) = spilled();
    let carry = Carry { name: "n".repeat(5000), rows: Rows::new(1, Vec::new()) };
    let state = ChunkState { carry: vec![carry], ..ChunkState::new(Rows::new(1, Vec::new())) };
    let error = store.put(Generation::Even, 1, state).unwrap_err();
    assert!(error.to_string().contains("carries more names than a header holds"), "{error}");
}

/// `/dev/full` is a file on which every write finds the disk full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_with_the_file() {
    let (dir, store) = spilled();
    store.drop_generation(Generation::Even).unwrap();
    drop(store);
    symlink("/dev/full", even(&dir)).unwrap();
    let store = SpilledStore::open(dir.path()).unwrap();
    let error = store.put(Generation::Even, 0, chunk(0)).unwrap_err();
    let SliError::Io { action: "cannot write", path, source } = &error else { panic!("{error}") };
    assert_eq!((path, source.kind()), (&even(&dir), std::io::ErrorKind::StorageFull));
}

#[test]
fn a_store_without_a_usable_layout_cannot_be_opened() {
    let (dir, store) = spilled();
    drop(store);
    let layout = dir.path().join("sli-slots.json");
    fs::write(&layout, r#"{"even":[18446744073709551615,4],"odd":[],"encoder_output":[]}"#).unwrap();
    let store = SpilledStore::open(dir.path()).unwrap();
    assert!(store.get(Generation::Even, 1).is_err());
    fs::write(&layout, "{").unwrap();
    assert!(SpilledStore::open(dir.path()).unwrap_err().to_string().contains("sli-slots.json"));
    fs::remove_file(&layout).unwrap();
    assert!(SpilledStore::open(dir.path()).unwrap_err().to_string().contains("sli-slots.json"));
}

#[test]
fn a_damaged_snapshot_cannot_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = ResidentStore::create(dir.path()).unwrap();
    store.put(Generation::Odd, 3, chunk(3)).unwrap();
    store.sync().unwrap();
    drop(store);
    let file = dir.path().join("sli-odd.1.chunks");
    let good = fs::read(&file).unwrap();
    overwrite(&file, BLOCK + 3, b"x");
    assert!(
        matches!(ResidentStore::open(dir.path(), 1), Err(error) if error.to_string().contains("is damaged"))
    );
    fs::write(&file, good).unwrap();
    assert_eq!(ResidentStore::open(dir.path(), 1).unwrap().get(Generation::Odd, 3).unwrap(), chunk(3));
    assert!(ResidentStore::open(dir.path(), 2).is_err());
}
