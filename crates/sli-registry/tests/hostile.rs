//! Configs that somebody made up: whatever stands in a config.json, the answer is a spec whose sizes fit together or
//! an error, never a panic, an overflow or hours of work.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use sli_core::{ModelSpec, Place, TensorNeed, WeightMap};
use sli_registry::{ArchitectureRegistry, HfConfig, Resolved};

/// What is put in place of each value in turn.
fn hostile_values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(7),
        json!(-1),
        json!(0.5),
        json!(-0.5),
        json!(1e300),
        json!(-1e300),
        json!(1u64 << 28),
        json!((1u64 << 28) + 1),
        json!(1u64 << 40),
        json!(u64::MAX),
        json!(""),
        json!("gelu"),
        json!("full_attention"),
        json!([]),
        json!([0]),
        json!(["x"]),
        json!({}),
        json!({"type": "dynamic", "factor": 2}),
        json!({"__float__": "Infinity"}),
    ]
}

/// The files of this name in `tests/configs`.
fn configs(name: &str) -> Vec<Map<String, Value>> {
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs")).unwrap();
    let files = folders.map(|folder| folder.unwrap().path().join(name)).filter(|file| file.exists());
    // What Python writes that is no JSON.
    let text = |file| fs::read_to_string(file).unwrap().replace("Infinity", r#"{"__float__": "Infinity"}"#);
    files.map(|file| serde_json::from_str(&text(file)).unwrap()).collect()
}

fn resolve(config: &Map<String, Value>) -> Option<Resolved> {
    let text = serde_json::to_string(config).unwrap();
    let config = HfConfig::parse(&text, "config.json").unwrap();
    match ArchitectureRegistry::default().resolve(&config) {
        Ok(resolved) => Some(resolved),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// Does what later stages do: list the needs, find their sources, count bytes. Of long models a few layers.
fn walk(spec: &ModelSpec, weights: &WeightMap) {
    let mut bytes: u64 = 0;
    let mut count = |place: Place, needs: Vec<TensorNeed>| {
        for need in needs {
            let source = weights.source(place, need.key, "");
            let source = source.unwrap_or_else(|| panic!("{place}: no source of {}", need.key));
            let size = |shape: &[usize]| {
                shape.iter().map(|size| *size as u64).try_fold(4u64, u64::checked_mul).expect("an overflow")
            };
            size(&source.stored_shape(&need.shape));
            bytes = bytes.checked_add(size(&need.shape)).expect("an overflow");
        }
    };
    for (s, stack) in spec.stacks.iter().enumerate() {
        count(Place::Embedding { stack: s }, stack.embedding.needs(stack.hidden_size));
        for (l, block) in stack.layers.iter().enumerate().take(2) {
            let mut needs = block.needs(stack.hidden_size);
            needs.truncate(200);
            count(Place::Layer { stack: s, layer: l }, needs);
        }
        count(Place::FinalNorm { stack: s }, stack.final_norm_needs());
    }
    if let (Some(head), Some(stack)) = (&spec.head, spec.stacks.last()) {
        count(Place::Head, head.needs(stack.hidden_size));
    }
}

#[test]
fn every_value_of_every_key_may_be_hostile() {
    for config in configs("released.json") {
        for key in config.keys() {
            for value in hostile_values() {
                let mut config = config.clone();
                config.insert(key.clone(), value);
                if let Some(resolved) = resolve(&config) {
                    walk(&resolved.spec, &resolved.weights);
                }
            }
            let mut without = config.clone();
            without.shift_remove(key);
            resolve(&without);
        }
    }
}

#[test]
fn keys_inside_objects_may_be_hostile() {
    for config in configs("transformers5.json") {
        for (key, object) in config.iter().filter_map(|(key, value)| Some((key, value.as_object()?))) {
            for inner in object.keys() {
                for value in hostile_values() {
                    let mut config = config.clone();
                    config[key][inner] = value;
                    if let Some(resolved) = resolve(&config) {
                        walk(&resolved.spec, &resolved.weights);
                    }
                }
            }
        }
    }
}

#[test]
fn several_values_at_once_may_be_hostile() {
    let values = hostile_values();
    // Knuth's generator (MMIX): the same sequence on every machine.
    let mut state: u64 = 42;
    let mut below = |count: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % count
    };
    for config in configs("released.json") {
        let keys: Vec<_> = config.keys().cloned().collect();
        for _ in 0..300 {
            let mut config = config.clone();
            for _ in 0..2 + below(4) {
                config.insert(keys[below(keys.len())].clone(), values[below(values.len())].clone());
            }
            if let Some(resolved) = resolve(&config) {
                walk(&resolved.spec, &resolved.weights);
            }
        }
    }
}
