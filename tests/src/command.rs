//! The program, run as a user runs it: as a process, on files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::golden::{Spelling, case};

/// What a process said, and how it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Outcome {
    /// What was printed by a process that has to succeed.
    ///
    /// # Panics
    /// When it failed.
    pub fn printed(&self) -> &str {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        &self.stdout
    }

    /// The one JSON document on stdout of a process that has to succeed.
    ///
    /// # Panics
    /// When it failed, or printed something else.
    pub fn json(&self) -> Value {
        let printed = self.printed();
        serde_json::from_str(printed).unwrap_or_else(|e| panic!("not one JSON document ({e}): {printed}"))
    }

    /// The complaint of a process that has to fail with this exit status: one error, first of all, and no trace of
    /// the program's insides.
    ///
    /// # Panics
    /// When it ended or complained in another way.
    pub fn complaint(&self, status: i32) -> &str {
        let Self { stderr, stdout, .. } = self;
        assert_eq!(self.status, Some(status), "{stdout}{stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert_eq!(stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("internal error"), "{stderr}");
        assert_eq!(stdout, "", "a failed run prints nothing");
        stderr
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started.
pub fn outcome(command: &mut Command) -> Outcome {
    outcome_with_input(command, "")
}

/// Runs a command to its end with this text on its standard input.
///
/// # Panics
/// When it cannot be started.
pub fn outcome_with_input(command: &mut Command, input: &str) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // A program that fails early does not read its input; that shows in its status.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("the program ends");
    Outcome {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A golden model, and a directory for datasets and results. Both go with the value.
#[derive(Debug)]
pub struct Workplace {
    program: PathBuf,
    model: TempDir,
    files: TempDir,
    /// The case's records.
    pub records: Vec<Value>,
}

impl Workplace {
    /// A workplace for the program at `program` with a golden case's model.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn new(program: &str, case_name: &str) -> Self {
        let case = case(case_name);
        Self {
            program: program.into(),
            model: case.model(Spelling::Legacy),
            files: tempfile::tempdir().expect("a temporary directory"),
            records: case.records(),
        }
    }

    /// The model's directory.
    pub fn model(&self) -> &Path {
        self.model.path()
    }

    /// A file or folder of this name, whether it is there or not.
    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Writes a file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// The program with arguments, split at blanks; cut off from the network and from the user's settings.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.program);
        for name in ["HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "SLI_LOG"] {
            command.env_remove(name);
        }
        command.env("HF_HUB_OFFLINE", "1").env("XDG_CACHE_HOME", self.path("cache"));
        command.current_dir(self.files.path()).args(arguments.split_whitespace());
        command
    }

    /// `run` of the model on `dataset`, a file of this workplace, into its folder `output`.
    pub fn run(&self, dataset: &str, output: &str, options: &str) -> Command {
        let mut command = self.command("run");
        command
            .arg(self.model())
            .args(["--dataset", dataset, "--output", output])
            .args(options.split_whitespace());
        command
    }

    /// Runs the case's records into the folder `output`, with `--json`, and returns the document.
    ///
    /// # Panics
    /// When the run fails.
    pub fn run_records(&self, output: &str, options: &str) -> Value {
        self.write("records.jsonl", json_lines(&self.records));
        outcome(self.run("records.jsonl", output, options).arg("--json")).json()
    }
}

/// Records as JSON lines.
pub fn json_lines<'a>(records: impl IntoIterator<Item = &'a Value>) -> String {
    records.into_iter().map(|record| format!("{record}\n")).collect()
}

/// Every file at or below a path, by its path from there, with its bytes.
///
/// # Panics
/// When something cannot be read.
pub fn tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        } else {
            let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            files.push((path.strip_prefix(root).unwrap_or(&path).to_path_buf(), bytes));
        }
    }
    files.sort();
    files
}
