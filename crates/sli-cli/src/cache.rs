//! `cache`: activations that unfinished runs left on disk.

use sli_cache::{ActivationState, Condition, activation_states, clear_activations, verify_activations};
use sli_core::{ByteSize, Result, SliError};

use crate::arguments::{CacheAction, CacheArguments, CacheCommand};
use crate::terminal::print_json;

/// Runs the command.
pub(crate) fn cache(command: &CacheCommand) -> Result<()> {
    match &command.action {
        CacheAction::List(arguments) => list(arguments),
        CacheAction::Verify(arguments) => verify(arguments),
        CacheAction::Clear(arguments) => clear(arguments),
    }
}

fn states(arguments: &CacheArguments) -> Result<Vec<ActivationState>> {
    if arguments.output.exists() { activation_states(&arguments.output) } else { Ok(Vec::new()) }
}

fn list(arguments: &CacheArguments) -> Result<()> {
    let states = states(arguments)?;
    if arguments.json {
        return print_json(&states);
    }
    for state in &states {
        let condition = match &state.condition {
            Condition::Running => "running".to_string(),
            Condition::Resumable => "resumable".to_string(),
            Condition::Leftover => "left over".to_string(),
            Condition::Damaged(why) => format!("damaged: {why}"),
        };
        let position =
            state.position.map_or(String::new(), |p| format!(", at stage {}, chunk {}", p.stage, p.chunks));
        println!("{}  {}  {condition}{position}", state.path.display(), state.bytes);
    }
    if states.is_empty() {
        println!("no unfinished runs below {}", arguments.output.display());
    }
    Ok(())
}

fn verify(arguments: &CacheArguments) -> Result<()> {
    let found = states(arguments)?
        .into_iter()
        .map(|state| Ok((state.path.clone(), verify_activations(&state.path)?)))
        .collect::<Result<Vec<_>>>()?;
    if arguments.json {
        print_json(&found)?;
    } else {
        for (path, found) in &found {
            println!("{}  {} chunks, {}, whole", path.display(), found.chunks, found.bytes);
            found.damaged.iter().for_each(|phrase| println!("  damaged: {phrase}"));
        }
    }
    let damaged: usize = found.iter().map(|(_, found)| found.damaged.len()).sum();
    if damaged > 0 { Err(SliError::Usage(format!("{damaged} chunks are damaged"))) } else { Ok(()) }
}

fn clear(arguments: &CacheArguments) -> Result<()> {
    if !arguments.output.exists() {
        println!("nothing below {}", arguments.output.display());
        return Ok(());
    }
    let cleared = clear_activations(&arguments.output)?;
    if arguments.json {
        return print_json(&cleared);
    }
    println!("removed {} unfinished runs, {}", cleared.removed.len(), ByteSize(cleared.bytes.0));
    for path in &cleared.running {
        println!("left alone, since a process is at work there: {}", path.display());
    }
    Ok(())
}
