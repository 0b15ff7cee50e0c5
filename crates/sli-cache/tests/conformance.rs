//! What every activation store does, run over each of them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use sli_cache::*;

const GENERATIONS: [Generation; 3] = [Generation::Even, Generation::Odd, Generation::EncoderOutput];
const CHUNKS: usize = 6;

/// A store to test: how it is made, and how another process finds it again.
struct Case {
    name: &'static str,
    create: fn(&Path) -> Arc<dyn ActivationStore>,
    open: fn(&Path) -> Arc<dyn ActivationStore>,
    durable: bool,
}

const CASES: [Case; 4] = [
    Case { name: "resident", create: create_resident, open: open_resident, durable: false },
    Case { name: "spilled", create: create_spilled, open: open_spilled, durable: true },
    Case {
        name: "resident in the background",
        create: |dir| in_background(create_resident(dir)),
        open: |dir| in_background(open_resident(dir)),
        durable: false,
    },
    Case {
        name: "spilled in the background",
        create: |dir| in_background(create_spilled(dir)),
        open: |dir| in_background(open_spilled(dir)),
        durable: true,
    },
];

fn create_resident(dir: &Path) -> Arc<dyn ActivationStore> {
    Arc::new(ResidentStore::create(dir).unwrap())
}

fn open_resident(dir: &Path) -> Arc<dyn ActivationStore> {
    let names =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let numbers =
        names.filter_map(|name| name.strip_prefix("sli-snapshot.")?.strip_suffix(".json")?.parse().ok());
    Arc::new(ResidentStore::open(dir, numbers.max().unwrap()).unwrap())
}

fn create_spilled(dir: &Path) -> Arc<dyn ActivationStore> {
    let layout =
        SlotLayout::from_tokens(&[50; CHUNKS], 400).with(Generation::EncoderOutput, vec![20_000; CHUNKS]);
    Arc::new(SpilledStore::create(dir, &layout).unwrap())
}

fn open_spilled(dir: &Path) -> Arc<dyn ActivationStore> {
    Arc::new(SpilledStore::open(dir).unwrap())
}

fn in_background(inner: Arc<dyn ActivationStore>) -> Arc<dyn ActivationStore> {
    Arc::new(BackgroundStore::new(inner, 30_000).unwrap())
}

/// Runs a test over each store, in a directory of its own.
fn for_each_store(test: impl Fn(&Case, &Path, Arc<dyn ActivationStore>)) {
    for case in &CASES {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made/by the store");
        test(case, &dir, (case.create)(&dir));
    }
}

/// A chunk whose values follow from `seed`.
fn chunk(seed: usize) -> ChunkState {
    let rows = |width: usize, count: usize| {
        Rows::new(width, (0..width * count).map(|i| (seed * 1000 + i) as f32 * 0.37).collect())
    };
    let count = 10 + seed % 40;
    let carry = ["first values", "embedding"].map(|name| Carry { name: name.into(), rows: rows(8, count) });
    ChunkState { hidden: rows(64, count), carry: carry[..seed % 3].to_vec() }
}

#[test]
fn gives_back_what_was_put() {
    for_each_store(|case, _, store| {
        assert_eq!(store.is_durable(), case.durable);
        for (seed, generation) in GENERATIONS.into_iter().enumerate() {
            store.put(generation, 2, chunk(seed)).unwrap();
        }
        for _ in 0..2 {
            for (seed, generation) in GENERATIONS.into_iter().enumerate() {
                assert_eq!(store.get(generation, 2).unwrap(), chunk(seed), "{}", case.name);
            }
        }
        store.put(Generation::Odd, 2, chunk(9)).unwrap();
        assert_eq!(store.get(Generation::Odd, 2).unwrap(), chunk(9), "{}", case.name);
        assert_eq!(store.get(Generation::Even, 2).unwrap(), chunk(0), "{}", case.name);
    });
}

#[test]
fn every_bit_comes_back() {
    let values =
        [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), -0.0, f32::MIN_POSITIVE / 4.0, f32::INFINITY];
    for_each_store(|case, _, store| {
        store.put(Generation::Even, 0, ChunkState::new(Rows::new(3, values.to_vec()))).unwrap();
        store.sync().unwrap();
        let back = store.get(Generation::Even, 0).unwrap().hidden;
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!((bits(back.values()), back.width()), (bits(&values), 3), "{}", case.name);
    });
}

#[test]
fn a_chunk_may_have_no_tokens() {
    for_each_store(|case, _, store| {
        let empty = ChunkState::new(Rows::new(64, Vec::new()));
        store.put(Generation::Even, 1, empty.clone()).unwrap();
        assert_eq!(store.get(Generation::Even, 1).unwrap(), empty, "{}", case.name);
    });
}

#[test]
fn what_is_not_there_is_an_error_that_says_so() {
    for_each_store(|case, _, store| {
        store.put(Generation::Even, 1, chunk(1)).unwrap();
        for (generation, chunk) in [
            (Generation::Odd, 1),
            (Generation::Even, 0),
            (Generation::Even, 4),
            (Generation::Even, usize::MAX),
        ] {
            let error = store.get(generation, chunk).unwrap_err().to_string();
            assert!(error.contains(&format!("chunk {chunk} of generation")), "{}: {error}", case.name);
            assert!(error.contains("is not there"), "{}: {error}", case.name);
        }
    });
}

#[test]
fn a_dropped_generation_is_gone_and_can_be_filled_again() {
    for_each_store(|case, dir, store| {
        for i in 0..CHUNKS {
            store.put(Generation::Even, i, chunk(i)).unwrap();
            store.put(Generation::Odd, i, chunk(i + 1)).unwrap();
        }
        store.drop_generation(Generation::Even).unwrap();
        store.drop_generation(Generation::EncoderOutput).unwrap();
        assert!(store.get(Generation::Even, 0).is_err(), "{}", case.name);
        assert_eq!(store.get(Generation::Odd, 3).unwrap(), chunk(4), "{}", case.name);
        store.put(Generation::Even, 5, chunk(7)).unwrap();
        store.sync().unwrap();
        drop(store);
        let store = (case.open)(dir);
        assert_eq!(store.get(Generation::Even, 5).unwrap(), chunk(7), "{}", case.name);
        assert!(store.get(Generation::Even, 0).is_err(), "{}", case.name);
    });
}

#[test]
fn what_is_synced_is_found_again() {
    for_each_store(|case, dir, store| {
        for i in 0..CHUNKS {
            store.put(Generation::Even, i, chunk(i)).unwrap();
            store.put(Generation::EncoderOutput, i, chunk(i + 20)).unwrap();
        }
        store.sync().unwrap();
        store.put(Generation::Even, 3, chunk(50)).unwrap();
        store.release(Generation::Even, 2);
        store.sync().unwrap();
        store.sync().unwrap();
        drop(store);

        let store = (case.open)(dir);
        for i in [0, 1, 4, 5] {
            assert_eq!(store.get(Generation::Even, i).unwrap(), chunk(i), "{}", case.name);
        }
        assert_eq!(store.get(Generation::Even, 3).unwrap(), chunk(50), "{}", case.name);
        assert_eq!(store.get(Generation::EncoderOutput, 1).unwrap(), chunk(21), "{}", case.name);
        store.put(Generation::Even, 2, chunk(2)).unwrap();
        assert_eq!(store.get(Generation::Even, 2).unwrap(), chunk(2), "{}", case.name);
    });
}

#[test]
fn threads_work_side_by_side() {
    for_each_store(|case, _, store| {
        thread::scope(|scope| {
            for i in 0..CHUNKS {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..20 {
                        let generation = GENERATIONS[round % 2];
                        store.put(generation, i, chunk(i * 7 + round)).unwrap();
                        if round % 5 == i % 5 {
                            store.sync().unwrap();
                        }
                        assert_eq!(store.get(generation, i).unwrap(), chunk(i * 7 + round), "{}", case.name);
                    }
                });
            }
        });
    });
}

/// A long row of random operations, compared with a plain map.
#[test]
fn agrees_with_a_map() {
    for_each_store(|case, dir, mut store| {
        let mut expected = HashMap::new();
        let mut synced = false;
        let mut random = 1u64;
        for step in 0..1500 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let bits = (random >> 33) as usize;
            let (generation, chunk_index) = (GENERATIONS[bits % 3], (bits / 3) % CHUNKS);
            match (bits / 64) % 20 {
                0..8 => {
                    store.put(generation, chunk_index, chunk(step)).unwrap();
                    expected.insert((generation, chunk_index), step);
                }
                8..16 => match (expected.get(&(generation, chunk_index)), store.get(generation, chunk_index))
                {
                    (Some(seed), Ok(state)) => assert_eq!(state, chunk(*seed), "{} step {step}", case.name),
                    (Some(_), Err(error)) => panic!("{} step {step}: {error}", case.name),
                    // Released chunks may still be there.
                    (None, _) => {}
                },
                16 | 17 => {
                    store.release(generation, chunk_index);
                    expected.remove(&(generation, chunk_index));
                }
                18 => {
                    store.drop_generation(generation).unwrap();
                    expected.retain(|(other, _), _| *other != generation);
                }
                _ => {
                    store.sync().unwrap();
                    synced = true;
                }
            }
            if synced && step % 100 == 99 {
                store.sync().unwrap();
                drop(store);
                store = (case.open)(dir);
            }
        }
        assert!(synced);
    });
}
