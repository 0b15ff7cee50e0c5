//! Kernels against torch. Both sides wait for the name of a case and answer with seconds; they take turns, so that what
//! else the machine does meets both.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::{Result, root};

/// Turns of each side; the fastest counts.
const TURNS: usize = 3;

/// A process that answers names of cases.
struct Side {
    process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Side {
    fn start(command: &mut Command) -> Result<Self> {
        let mut process = command
            .current_dir(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
        let questions = process.stdin.take().ok_or("no standard input")?;
        let answers = BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
        Ok(Self { process, questions, answers })
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.answers.next().ok_or("a benchmark ended early")??)
    }

    /// Seconds of the case, or nothing where this side has no such operation.
    fn ask(&mut self, name: &str) -> Result<Option<f64>> {
        writeln!(self.questions, "{name}")?;
        let answer = self.line()?;
        Ok(if answer == "-" { None } else { Some(answer.parse()?) })
    }

    fn end(self) -> Result {
        let Self { mut process, questions, .. } = self;
        drop(questions);
        process.wait()?;
        Ok(())
    }
}

pub(crate) fn torch(python: &str, threads: usize, words: &[String]) -> Result {
    let script = root().join("xtask/src/bench/torch_cases.py");
    let mut torch = Side::start(Command::new(python).arg(&script).arg(threads.to_string()))?;
    let version = torch.line().map_err(|_| {
        format!("{python} cannot import torch; name one that can: cargo xtask bench torch --python PYTHON")
    })?;
    let mut kernels = Side::start(
        Command::new(env!("CARGO"))
            .args(["bench", "--quiet", "-p", "sli-kernels", "--bench", "kernels", "--", "--serve"])
            .args(words)
            .env("RAYON_NUM_THREADS", threads.to_string()),
    )?;
    let mut names = Vec::new();
    loop {
        match kernels.line()? {
            name if name.is_empty() => break,
            name => names.push(name),
        }
    }
    println!(
        "torch {version}, {threads} threads; milliseconds, the fastest of {TURNS} turns of half a second"
    );
    println!("{:44} {:>10} {:>10} {:>12}", "case", "kernels", "torch", "torch/kernels");
    for name in names {
        let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..TURNS {
            let Some(seconds) = torch.ask(&name)? else { break };
            theirs = theirs.min(seconds);
            ours = ours.min(kernels.ask(&name)?.ok_or("the kernels lack a case of their own")?);
        }
        if theirs.is_finite() {
            println!("{name:44} {:10.3} {:10.3} {:12.2}", ours * 1e3, theirs * 1e3, theirs / ours);
        }
    }
    torch.end()?;
    kernels.end()
}
