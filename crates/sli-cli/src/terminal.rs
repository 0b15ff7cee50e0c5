//! What the program says besides its results: errors, warnings, nothing of its insides.

use std::io::IsTerminal;
use std::process::ExitCode;

use sli_core::SliError;
use tracing_subscriber::EnvFilter;

/// Exit status of an interrupted run, as shells have it for SIGINT.
const INTERRUPTED: u8 = 130;
/// Exit status when nobody reads the output any more, as shells have it for SIGPIPE.
const BROKEN_PIPE: i32 = 141;

/// Turns a panic into an error message like any other. A panic is a bug, and a backtrace helps no user.
pub(crate) fn hide_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        let message = panic.payload_as_str().unwrap_or("no message");
        // `println!` panics when its reader leaves, as `head` does once it has seen enough.
        if message.starts_with("failed printing to stdout") && message.contains("Broken pipe") {
            std::process::exit(BROKEN_PIPE);
        }
        eprintln!("error: internal error: {message}{}", place.unwrap_or_default());
        eprintln!("hint: this is a bug; please report it with the command that you ran");
        std::process::exit(1);
    }));
}

/// Warnings go to stderr, more with `-v`; `SLI_LOG` takes a filter like `sli_weights=debug`.
pub(crate) fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("SLI_LOG").unwrap_or_else(|_| {
        let ours = ["sli_cli", "sli_integrator", "sli_weights", "sli_cache", "sli_layers", "sli_registry"];
        EnvFilter::new(ours.map(|name| format!("{name}={level}")).join(","))
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbose > 0)
        .without_time()
        .init();
}

/// Prints an error and its hint, and says with which status to exit.
pub(crate) fn report(error: &SliError) -> ExitCode {
    if let SliError::Interrupted { done } = error {
        eprintln!("interrupted after {done}; what is done is kept");
        eprintln!("hint: run the same command again to go on");
        return ExitCode::from(INTERRUPTED);
    }
    eprintln!("error: {error}");
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}

/// Prints one JSON document on stdout.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), SliError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| SliError::Usage(format!("--json: {e}")))?;
    println!("{text}");
    Ok(())
}
