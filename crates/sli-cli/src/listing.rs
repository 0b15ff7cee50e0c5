//! `families` and `models`: what the registry knows.

use sli_core::{Family, Result, SliError};
use sli_registry::{ArchitectureRegistry, taxonomy};

use crate::arguments::{JsonFlag, ModelsCommand};
use crate::terminal::print_json;

/// Prints the families and their architectures.
pub(crate) fn families(command: &JsonFlag) -> Result<()> {
    if command.json {
        return print_json(&taxonomy());
    }
    let registry = ArchitectureRegistry::new();
    println!("{:<10} {:>6}  architectures", "family", "models");
    for family in registry.families() {
        let names: Vec<_> =
            registry.architectures().iter().filter(|a| a.family == family).map(|a| a.name).collect();
        println!("{family:<10} {:>6}  {}", registry.models(family).count(), names.join(", "));
    }
    Ok(())
}

/// Prints the released models of one family or of all.
pub(crate) fn models(command: &ModelsCommand) -> Result<()> {
    let registry = ArchitectureRegistry::new();
    let families = match &command.family {
        None => registry.families(),
        Some(name) => {
            let family = registry.families().into_iter().find(|f| f.name().eq_ignore_ascii_case(name));
            vec![family.ok_or_else(|| unknown_family(name, &registry.families()))?]
        }
    };
    let models = || families.iter().flat_map(|f| registry.models(*f).map(move |(a, model)| (*f, a, model)));
    if command.json {
        let entries: Vec<_> = models()
            .map(|(family, architecture, model)| {
                serde_json::json!({"family": family, "architecture": architecture.name, "model": model})
            })
            .collect();
        return print_json(&entries);
    }
    println!("{:<10} {:<28} {:<46} notes", "family", "model", "hub id");
    for (family, _, model) in models() {
        println!("{family:<10} {:<28} {:<46} {}", model.name, model.id, model.notes);
    }
    Ok(())
}

fn unknown_family(name: &str, families: &[Family]) -> SliError {
    let names: Vec<_> = families.iter().map(|family| family.name()).collect();
    SliError::Usage(format!("there is no family '{name}'; there are {}", names.join(", ")))
}
