//! Rates of the kernels, and their share of the peak of the arithmetic units measured in the same run.
//!
//! `cargo bench -p sli-kernels [-- WORD...]` runs the cases whose names contain one of the words;
//! `RAYON_NUM_THREADS` and `SLI_ISA` are honoured. Each line is the best of half a second.
//!
//! With `--serve` the names are printed, then an empty line, and from then on each name that is read is answered by the
//! seconds of one call: so `cargo xtask bench torch` takes turns.
#![allow(clippy::print_stdout)]

mod attention;
mod fused;
mod linear;
mod peak;

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use sli_kernels::{Precision, available, requested_isa};

/// How long a case is repeated.
const BUDGET: Duration = Duration::from_millis(500);

/// Something to measure. Its name says the shape.
struct Case {
    name: String,
    work: Work,
    /// Allocates what the call works on.
    prepare: Box<dyn Fn() -> Box<dyn FnMut()>>,
}

/// What a call does: arithmetic, or mostly traffic with memory.
enum Work {
    /// Multiplications and additions.
    Flops(usize, Precision),
    /// Bytes read and written.
    Bytes(usize),
}

impl Case {
    fn new(name: String, work: Work, prepare: impl Fn() -> Box<dyn FnMut()> + 'static) -> Self {
        Self { name, work, prepare: Box::new(prepare) }
    }

    /// GFLOP/s that the case cannot exceed, where this program can measure them.
    fn peak(&self) -> Option<f64> {
        match self.work {
            Work::Flops(_, precision) => peak::peak(precision),
            Work::Bytes(_) => None,
        }
    }

    /// Runs the case and prints its time, its rate and the share of the peak.
    fn print(&self) {
        let mut call = (self.prepare)();
        // Before and after, since the clock and the other work of a machine change.
        let before = self.peak();
        let seconds = fastest(BUDGET, &mut call);
        let peak = before.zip(self.peak()).map(|(before, after)| before.max(after));
        let rate = match self.work {
            Work::Flops(flops, _) => format!("{:8.1} GFLOP/s", flops as f64 / seconds / 1e9),
            Work::Bytes(bytes) => format!("{:8.1} GB/s", bytes as f64 / seconds / 1e9),
        };
        let share = match (&self.work, peak) {
            (Work::Flops(flops, _), Some(peak)) => {
                format!("{:6.1} % of {peak:.0}", 100.0 * *flops as f64 / seconds / 1e9 / peak)
            }
            _ => String::new(),
        };
        println!("{:42} {:9.3} ms {rate} {share}", self.name, seconds * 1e3);
    }
}

/// Seconds of the fastest of the calls that fit into `budget`, after one that warms up.
fn fastest(budget: Duration, mut call: impl FnMut()) -> f64 {
    call();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < budget {
        let begin = Instant::now();
        call();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

/// Reproducible values in -1..1.
fn values(length: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / 2f32.powi(31) - 1.0
    };
    (0..length).map(|_| next()).collect()
}

/// Fails where a vector instruction became a function of its own. The compiler does that to code that is not inlined into
/// what is compiled for an instruction set, such as a large closure, and a call for each instruction is many times as slow.
fn check_inlining() -> std::io::Result<()> {
    let program = std::fs::read(std::env::current_exe()?)?;
    // As in `_mm512_add_ps`, among the names of functions.
    let is_instruction = |name: &&[u8]| {
        name.starts_with(b"_mm") && name[3..6].iter().all(u8::is_ascii_digit) && name[6] == b'_'
    };
    let Some(at) = program.windows(20).position(|name| is_instruction(&name)) else { return Ok(()) };
    let name: String =
        program[at..].iter().take_while(|&&byte| byte != 0).map(|&byte| byte as char).collect();
    Err(std::io::Error::other(format!(
        "a vector instruction is a call: {name} is a function of this program"
    )))
}

/// Answers names with seconds, until there are no more. The last case stays prepared.
fn serve(cases: &[Case]) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for case in cases {
        println!("{}", case.name);
    }
    println!();
    out.flush()?;
    let mut prepared: Option<(String, Box<dyn FnMut()>)> = None;
    for name in std::io::stdin().lock().lines() {
        let name = name?;
        if prepared.as_ref().is_none_or(|(last, _)| *last != name) {
            let Some(case) = cases.iter().find(|case| case.name == name) else { break };
            drop(prepared.take());
            prepared = Some((name, (case.prepare)()));
        }
        if let Some((_, call)) = &mut prepared {
            println!("{:e}", fastest(BUDGET, call));
            out.flush()?;
        }
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    check_inlining()?;
    let mut cases = linear::cases();
    cases.extend(attention::cases());
    cases.extend(fused::cases());
    // `cargo bench` passes `--bench`.
    let (options, words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    cases.retain(|case| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str())));
    if options.iter().any(|option| option == "--serve") {
        return serve(&cases);
    }
    match requested_isa() {
        Ok(isa) => println!("instruction set {isa}, {} threads", rayon::current_num_threads()),
        Err(error) => println!("{error}; using {}", available()[0]),
    }
    println!("shares are of the rate of products in registers alone, measured beside each line");
    cases.iter().for_each(Case::print);
    Ok(())
}
