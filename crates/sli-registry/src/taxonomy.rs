//! What is supported, by family: for `plans/architecture_taxonomy.json` and `docs/taxonomy.md`.

use std::fmt::Write;

use serde::Serialize;
use sli_core::Family;

use crate::arch::ARCHITECTURES;
use crate::architecture::{Architecture, KnownModel};

/// All built-in architectures by family.
#[derive(Clone, Debug, Serialize)]
pub struct Taxonomy {
    /// The families that have architectures, in a fixed order.
    pub families: Vec<FamilyEntry>,
}

/// A family.
#[derive(Clone, Debug, Serialize)]
pub struct FamilyEntry {
    /// The family.
    pub family: Family,
    /// Its architectures.
    pub architectures: Vec<ArchitectureEntry>,
}

/// What is told of an [`Architecture`].
#[derive(Clone, Debug, Serialize)]
pub struct ArchitectureEntry {
    /// Its name in the registry.
    pub name: &'static str,
    /// What configs say as `model_type`.
    pub model_types: &'static [&'static str],
    /// What configs say in `architectures`.
    pub architectures: &'static [&'static str],
    /// Released models.
    pub known_models: &'static [KnownModel],
}

impl From<&Architecture> for ArchitectureEntry {
    fn from(architecture: &Architecture) -> Self {
        Self {
            name: architecture.name,
            model_types: architecture.model_types,
            architectures: architecture.architectures,
            known_models: architecture.known_models,
        }
    }
}

/// The built-in architectures by family. It serializes to `plans/architecture_taxonomy.json`.
pub fn taxonomy() -> Taxonomy {
    let entry = |family| {
        let of_family = ARCHITECTURES.iter().filter(|architecture| architecture.family == family);
        FamilyEntry { family, architectures: of_family.map(ArchitectureEntry::from).collect() }
    };
    let families = Family::ALL.into_iter().map(entry).filter(|entry| !entry.architectures.is_empty());
    Taxonomy { families: families.collect() }
}

/// The same as a page of tables, `docs/taxonomy.md`.
pub fn taxonomy_markdown() -> String {
    let taxonomy = taxonomy();
    let architectures = || taxonomy.families.iter().flat_map(|family| &family.architectures);
    let models: usize = architectures().map(|architecture| architecture.known_models.len()).sum();
    let mut page = format!(
        "# Supported architectures\n\nWritten by `cargo xtask taxonomy` from the registry: {} architectures, {models} \
         released models or groups of models.\n",
        architectures().count(),
    );
    for family in &taxonomy.families {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## {}\n\n", family.family);
        page +=
            "| model | example on the hub | architecture | `model_type` | notes |\n|---|---|---|---|---|\n";
        for architecture in &family.architectures {
            for model in architecture.known_models {
                let model_types: Vec<_> =
                    architecture.model_types.iter().map(|name| format!("`{name}`")).collect();
                let model_types = model_types.join(", ");
                let KnownModel { name, id, notes } = model;
                let _ = writeln!(page, "| {name} | {id} | {} | {model_types} | {notes} |", architecture.name);
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_is_told_once() {
        let told: Vec<_> = taxonomy().families.into_iter().flat_map(|family| family.architectures).collect();
        assert_eq!(told.len(), ARCHITECTURES.len());
        let page = taxonomy_markdown();
        for model in ARCHITECTURES.iter().flat_map(|architecture| architecture.known_models) {
            assert_eq!(
                page.matches(&format!("| {} | {} |", model.name, model.id)).count(),
                1,
                "{}",
                model.name
            );
            assert!(!format!("{model:?}").contains('|'));
        }
    }

    #[test]
    fn it_serializes_by_family() {
        let json = serde_json::to_value(taxonomy()).unwrap();
        assert_eq!(json["families"][0]["family"], "Llama");
        assert_eq!(json["families"][0]["architectures"][0]["known_models"][0]["id"], "huggyllama/llama-7b");
    }
}
