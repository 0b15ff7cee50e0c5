//! The taxonomy of architectures and models, written from the registry.

use std::path::Path;

use crate::{Result, root};

/// Writes both files, or checks that they are what would be written.
pub(crate) fn taxonomy(check: bool) -> Result {
    let json = serde_json::to_string_pretty(&sli_registry::taxonomy())? + "\n";
    let files =
        [("plans/architecture_taxonomy.json", json), ("docs/taxonomy.md", sli_registry::taxonomy_markdown())];
    for (name, text) in files {
        let path = root().join(name);
        if check { same(&path, name, &text)? } else { std::fs::write(&path, text)? }
    }
    Ok(())
}

fn same(path: &Path, name: &str, text: &str) -> Result {
    match std::fs::read_to_string(path) {
        Ok(found) if found == text => Ok(()),
        Ok(_) => Err(format!("{name} is stale: run `cargo xtask taxonomy`").into()),
        Err(error) => Err(format!("{name}: {error}; run `cargo xtask taxonomy`").into()),
    }
}
