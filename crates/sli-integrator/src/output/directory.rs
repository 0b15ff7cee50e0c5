//! The output directory as a whole.

use std::path::Path;

use sli_core::{Result, SliError};

/// Files and folders that a run leaves.
const OUTPUTS: [&str; 7] =
    ["run.json", "profile.json", "samples.jsonl", "hidden", "logits", "scores", "stats"];

/// Removes what an earlier run left, run.json first, and nothing else.
pub(crate) fn remove_outputs(output: &Path) -> Result<()> {
    for path in OUTPUTS.map(|name| output.join(name)) {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SliError::io("cannot remove", path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Bytes of all outputs.
pub(crate) fn output_bytes(output: &Path) -> u64 {
    OUTPUTS.iter().map(|name| bytes_at(&output.join(name))).sum()
}

/// Bytes of a file, or of all files in a folder and below it; none when it is not there.
fn bytes_at(path: &Path) -> u64 {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| bytes_at(&entry.path())).sum(),
        Err(_) => path.metadata().map_or(0, |meta| meta.len()),
    }
}
