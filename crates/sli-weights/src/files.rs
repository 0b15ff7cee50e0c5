//! Which files of a directory hold the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sli_core::{Result, SliError, WeightError};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What stands in the names of files that hold parts of tensors, before the number of the part or [`COMMON`].
const PART: &str = "-TP-";
/// Of tensors that were not cut into parts.
const COMMON: &str = "common";

/// The weight files of a directory.
pub(crate) struct Found {
    /// The files, sorted.
    pub(crate) paths: Vec<PathBuf>,
    /// The index that named them.
    pub(crate) index: Option<Index>,
}

/// What `model.safetensors.index.json` says.
pub(crate) struct Index {
    path: PathBuf,
    /// The file that holds each tensor.
    pub(crate) weight_map: BTreeMap<String, PathBuf>,
}

impl Index {
    /// An error about what the index says.
    pub(crate) fn malformed(&self, message: String) -> WeightError {
        WeightError::Header { path: self.path.clone(), message }
    }
}

/// Looks for `model.safetensors`, then for an index, then for files of parts, then for one file of any name.
///
/// # Errors
/// When there is nothing to read, or more than one thing that could be meant, or the index cannot be trusted.
pub(crate) fn find_files(directory: &Path) -> Result<Found> {
    let (single, index) = (directory.join(SINGLE), directory.join(INDEX));
    if single.is_file() {
        return Ok(Found { paths: vec![single], index: None });
    }
    if index.is_file() {
        let index = read_index(directory, index)?;
        let paths: BTreeSet<_> = index.weight_map.values().cloned().collect();
        return Ok(Found { paths: paths.into_iter().collect(), index: Some(index) });
    }
    let mut found = other_files(directory)?;
    found.sort();
    match found.as_slice() {
        parts if !parts.is_empty() && parts.iter().all(|path| is_of_parts(path)) => {
            Ok(Found { paths: found, index: None })
        }
        [_] => Ok(Found { paths: found, index: None }),
        [] => Err(no_weights(directory).into()),
        several => {
            let message = format!("{} .safetensors files, but neither {SINGLE} nor {INDEX}", several.len());
            Err(WeightError::Header { path: directory.into(), message }.into())
        }
    }
}

/// The number of the part of its tensors that a file holds.
pub(crate) fn part_of(path: &Path) -> Option<usize> {
    path.file_stem()?.to_str()?.rsplit_once(PART)?.1.parse().ok()
}

fn is_of_parts(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let common = stem.and_then(|stem| stem.rsplit_once(PART)).is_some_and(|(_, part)| part == COMMON);
    common || part_of(path).is_some()
}

fn other_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || SliError::io("cannot read", directory);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable())? {
        let path = entry.map_err(unreadable())?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") && path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

fn no_weights(directory: &Path) -> WeightError {
    for name in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let path = directory.join(name);
        if path.is_file() {
            let message = "only safetensors weights are read: save the model again as safetensors, or look for a \
                           revision that has them";
            return WeightError::Header { path, message: message.into() };
        }
    }
    WeightError::NoWeights { path: directory.into() }
}

fn read_index(directory: &Path, path: PathBuf) -> Result<Index> {
    #[derive(Deserialize)]
    struct Json {
        weight_map: BTreeMap<String, String>,
    }
    let text = fs::read(&path).map_err(SliError::io("cannot read", &path))?;
    let malformed = |message: String| WeightError::Header { path: path.clone(), message };
    let json: Json = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    let mut weight_map = BTreeMap::new();
    for (tensor, name) in json.weight_map {
        // Names come from strangers: they may not lead out of the directory. A link that lies in it is the user's.
        if name.is_empty() || !Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(malformed(format!("names '{name}', which is no file of this directory")).into());
        }
        weight_map.insert(tensor, directory.join(name));
    }
    if weight_map.is_empty() {
        return Err(malformed("names no tensors".into()).into());
    }
    let files: BTreeSet<_> = weight_map.values().collect();
    if let Some(missing) = files.into_iter().find(|file| !file.is_file()) {
        let message = format!("{} is not there: the download or copy did not finish", missing.display());
        return Err(malformed(message).into());
    }
    Ok(Index { path, weight_map })
}
