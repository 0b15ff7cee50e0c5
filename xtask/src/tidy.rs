//! What must not be: the invariants of docs/architecture.md, each a check over the sources.

use std::fs;
use std::path::{Path, PathBuf};

use sli_registry::ARCHITECTURES;

use crate::{Result, root};

/// The crates by level; a crate may depend only on crates of lower levels.
const LEVELS: [&[&str]; 5] = [
    &["sli-core", "sli-kernels"],
    &["sli-registry", "sli-cache", "sli-weights", "sli-moe"],
    &["sli-layers", "xtask"],
    &["sli-integrator"],
    &["sli-cli", "sli-tests"],
];
/// Crates that may use Burn.
const ON_BURN: [&str; 2] = ["sli-layers", "sli-integrator"];
/// Crates whose behaviour comes from the spec, never from a name.
const NAMELESS: [&str; 6] =
    ["sli-kernels", "sli-weights", "sli-layers", "sli-moe", "sli-cache", "sli-integrator"];
/// Architectures whose name is also the name of an operation.
const NAMES_OF_OPERATIONS: [&str; 2] = ["mamba", "mamba2"];
/// Where unsafe code may be: SIMD, aligned buffers for direct reads, the probe of the CUDA driver.
const UNSAFE: [&str; 3] =
    ["crates/sli-kernels/", "crates/sli-weights/src/aligned.rs", "crates/sli-layers/src/backend/cuda.rs"];
/// The longest a source file may be.
const LONGEST_FILE: usize = 450;

/// Runs all checks and lists what is wrong.
pub(crate) fn tidy() -> Result {
    let sources = sources()?;
    let mut wrong = Vec::new();
    dependencies(&mut wrong)?;
    for source in &sources {
        names(source, &mut wrong);
        unsafe_code(source, &mut wrong);
        habits(source, &mut wrong);
    }
    for line in &wrong {
        eprintln!("{line}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{} invariant(s) do not hold", wrong.len()).into()) }
}

/// A Rust file, its path from the top, and its text without comments and string contents where that matters.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_in(&self, krate: &str) -> bool {
        self.path.starts_with(&format!("crates/{krate}/src/"))
    }

    /// Lines of code with their numbers, comments left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.map(|(i, line)| (i + 1, line.split("//").next().unwrap_or(line)))
    }
}

fn sources() -> Result<Vec<Source>> {
    let root = root();
    let mut files = Vec::new();
    for folder in ["crates", "tests", "xtask"] {
        rust_files(&root.join(folder), &mut files)?;
    }
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let path = file.strip_prefix(&root)?.to_string_lossy().into_owned();
            Ok(Source { path, text: fs::read_to_string(&file)? })
        })
        .collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Dependencies run down, and only the crates that run layers know Burn.
fn dependencies(wrong: &mut Vec<String>) -> Result {
    let level = |name: &str| LEVELS.iter().position(|level| level.contains(&name));
    for (index, name) in
        LEVELS.iter().enumerate().flat_map(|(i, names)| names.iter().map(move |name| (i, *name)))
    {
        let folder = match name {
            "xtask" => "xtask".to_string(),
            "sli-tests" => "tests".to_string(),
            _ => format!("crates/{name}"),
        };
        let manifest = fs::read_to_string(root().join(&folder).join("Cargo.toml"))?;
        // Tests may look at anything.
        let manifest = manifest.split("[dev-dependencies]").next().unwrap_or(&manifest);
        for dependency in manifest.lines().filter_map(|line| line.split([' ', '.', '=']).next()) {
            if level(dependency).is_some_and(|level| level >= index) && dependency != name {
                wrong.push(format!(
                    "{folder}/Cargo.toml: {name} must not depend on {dependency}: arrows only run down"
                ));
            }
            if dependency.starts_with("burn") && !ON_BURN.contains(&name) {
                wrong.push(format!("{folder}/Cargo.toml: {name} must not know {dependency}"));
            }
        }
    }
    Ok(())
}

/// No decision by the name of an architecture.
fn names(source: &Source, wrong: &mut Vec<String>) {
    if !NAMELESS.iter().any(|krate| source.is_in(krate)) {
        return;
    }
    for (number, line) in source.code() {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        for word in words.map(str::to_ascii_lowercase) {
            let is_name =
                |a: &sli_registry::Architecture| a.name == word || a.model_types.contains(&word.as_str());
            let named = ARCHITECTURES.iter().any(is_name) && !NAMES_OF_OPERATIONS.contains(&word.as_str());
            if named || word == "model_type" {
                wrong.push(format!(
                    "{}:{number}: '{word}': behaviour comes from the spec, not from a name",
                    source.path
                ));
            }
        }
    }
}

fn unsafe_code(source: &Source, wrong: &mut Vec<String>) {
    if UNSAFE.iter().any(|place| source.path.starts_with(place)) || source.path.ends_with("tidy.rs") {
        return;
    }
    for (number, line) in source.code() {
        if line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "unsafe") {
            wrong.push(format!("{}:{number}: unsafe code belongs into {}", source.path, UNSAFE.join(", ")));
        }
    }
}

fn habits(source: &Source, wrong: &mut Vec<String>) {
    let lines = source.text.lines().count();
    if lines > LONGEST_FILE {
        wrong.push(format!("{}: {lines} lines: one idea a file, at most {LONGEST_FILE} lines", source.path));
    }
    if source.path.ends_with("tidy.rs") {
        return;
    }
    for (number, line) in source.text.lines().enumerate() {
        for mark in ["TODO", "FIXME", "XXX", "todo!", "unimplemented!"] {
            if line.contains(mark) {
                wrong.push(format!(
                    "{}:{}: {mark}: nothing unfinished is committed",
                    source.path,
                    number + 1
                ));
            }
        }
    }
}
