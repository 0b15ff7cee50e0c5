//! The spec and the weights of each config in `tests/configs`, against the snapshot in `tests/snapshots`.
//!
//! `released.json` is spelled as on the hub, `transformers5.json` as transformers 5 writes it: both must give the same
//! spec and leave no key unread. `SLI_UPDATE_SNAPSHOTS=1 cargo test -p sli-registry` writes the snapshots again; read
//! the difference before committing it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sli_core::{BlockSpec, ModelSpec, Place, Residency, TensorNeed, WeightMap};
use sli_registry::{ARCHITECTURES, ArchitectureRegistry};

fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The folders of `tests/configs`, in order.
fn cases() -> Vec<PathBuf> {
    let folders = fs::read_dir(tests_dir().join("configs")).unwrap();
    let mut cases: Vec<_> = folders.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn both_spellings_give_the_snapshot() {
    let registry = ArchitectureRegistry::default();
    let update = std::env::var_os("SLI_UPDATE_SNAPSHOTS").is_some();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let released = registry.resolve_path(case.join("released.json")).unwrap();
        assert!(released.unread.is_empty(), "{name}: unread {:?}", released.unread);
        let transformers5 = case.join("transformers5.json");
        if transformers5.exists() {
            let other = registry.resolve_path(transformers5).unwrap();
            assert!(other.unread.is_empty(), "{name}: unread {:?}", other.unread);
            assert_eq!(released.spec, other.spec, "{name}");
            assert_eq!(
                told(&released.spec, &released.weights),
                told(&other.spec, &other.weights),
                "{name}: weights"
            );
        }
        let snapshot = tests_dir().join("snapshots").join(format!("{name}.txt"));
        let told = told(&released.spec, &released.weights);
        if update {
            fs::write(&snapshot, &told).unwrap();
        }
        let expected = fs::read_to_string(&snapshot).unwrap_or_default();
        assert!(told == expected, "{name} differs from {}:\n{told}", snapshot.display());
    }
}

#[test]
fn every_architecture_has_a_case() {
    let registry = ArchitectureRegistry::default();
    let seen: Vec<_> = cases()
        .iter()
        .map(|case| registry.resolve_path(case.join("released.json")).unwrap().architecture.name)
        .collect();
    for architecture in ARCHITECTURES {
        assert!(seen.contains(&architecture.name), "{} has no folder in tests/configs", architecture.name);
    }
}

/// A spec and its weights as text: what each tensor is, its shape, and where it lies. Layers that are alike are told
/// once, and of the experts the first.
fn told(spec: &ModelSpec, weights: &WeightMap) -> String {
    let mut text = format!("{} ({})\n", spec.architecture, spec.family);
    let (max_length, start) = (spec.max_length, spec.decoder_start);
    let _ =
        writeln!(text, "max_length {max_length:?}, decoder_start {start:?}, prefixes {:?}", weights.prefixes);
    if !spec.linear_inputs.is_exact() {
        let _ = writeln!(text, "inputs of linear layers {}", json(&spec.linear_inputs));
    }
    for (s, stack) in spec.stacks.iter().enumerate() {
        let _ = writeln!(text, "\nstack {s}: {}, hidden size {}", json(&stack.kind), stack.hidden_size);
        let _ = writeln!(text, "embedding {}", json(&stack.embedding));
        let needs = stack.embedding.needs(stack.hidden_size);
        tell_needs(&mut text, weights, Place::Embedding { stack: s }, needs);
        for (first, last) in alike(&stack.layers) {
            let block = &stack.layers[first];
            let _ = writeln!(text, "layers {first}..={last} {}", json(block));
            let place = Place::Layer { stack: s, layer: first };
            tell_needs(&mut text, weights, place, block.needs(stack.hidden_size));
        }
        let _ = writeln!(text, "final norm {}", json(&stack.final_norm));
        tell_needs(&mut text, weights, Place::FinalNorm { stack: s }, stack.final_norm_needs());
    }
    let _ = writeln!(text, "\nhead {}", json(&spec.head));
    if let (Some(head), Some(stack)) = (&spec.head, spec.stacks.last()) {
        tell_needs(&mut text, weights, Place::Head, head.needs(stack.final_width()));
    }
    let _ = writeln!(text, "\nrenamed endings {:?}", weights.renamed_endings);
    for name in &weights.ignored {
        let _ = writeln!(text, "ignored {name}");
    }
    text
}

fn tell_needs(text: &mut String, weights: &WeightMap, place: Place, needs: Vec<TensorNeed>) {
    for need in needs.into_iter().filter(|need| need.key.role.index().is_none_or(|index| index == 0)) {
        let source = weights.source(place, need.key, "{prefix}");
        let source = source.unwrap_or_else(|| panic!("{place}: no source of {}", need.key));
        let _ = write!(text, "  {} {:?} <- {}", need.key, need.shape, source.names.join(" or "));
        source.rest.iter().for_each(|name| {
            let _ = write!(text, " + {name}");
        });
        let stored = source.stored_shape(&need.shape);
        if !source.ops.is_empty() {
            let _ = write!(text, " {stored:?} {:?}", source.ops);
        }
        text.push_str(if source.residency == Residency::Pinned { " (pinned)\n" } else { "\n" });
    }
}

/// Runs of equal blocks, as first and last index.
fn alike(blocks: &[BlockSpec]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for index in 0..blocks.len() {
        match runs.last_mut() {
            Some((first, last)) if blocks[*first] == blocks[index] => *last = index,
            _ => runs.push((index, index)),
        }
    }
    runs
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}
