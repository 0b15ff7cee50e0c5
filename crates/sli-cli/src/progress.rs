//! What is happening, on the terminal.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sli_integrator::{Observer, RunPlan, StageInfo};

use crate::plan;

/// A line with the layer at work, tokens/s, MB/s and the time left. Silent when stderr is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    tokens: AtomicU64,
    bytes: AtomicU64,
    stage: Mutex<Option<StageInfo>>,
    /// Parts of the work done: whole stages, in thousandths.
    done_before: AtomicU64,
}

impl Progress {
    /// A progress line on stderr.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} {wide_bar:.dim} {percent}% {prefix}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self {
            bar,
            started: Instant::now(),
            tokens: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            stage: Mutex::new(None),
            done_before: AtomicU64::new(0),
        }
    }

    fn update(&self) {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-3);
        let tokens = self.tokens.load(Ordering::Relaxed) as f64 / seconds;
        let megabytes = self.bytes.load(Ordering::Relaxed) as f64 / seconds / 1e6;
        let (position, length) = (self.bar.position() as f64, self.bar.length().unwrap_or(0) as f64);
        let fresh = position - self.done_before.load(Ordering::Relaxed) as f64;
        let left = if fresh > 0.0 { (length - position) / fresh * seconds } else { f64::NAN };
        let left = if left.is_finite() { format!("{} left", duration(left)) } else { String::new() };
        self.bar.set_prefix(format!("{tokens:.0} tokens/s, {megabytes:.0} MB/s, {left}"));
    }
}

impl Observer for Progress {
    fn planned(&self, plan: &RunPlan) {
        // As `eprintln!`, without tearing the progress line.
        self.bar.suspend(|| eprintln!("{}", plan::describe(plan)));
    }

    fn stage_started(&self, stage: &StageInfo) {
        // A unit of the bar is a thousandth of a stage.
        self.bar.set_length(stage.total as u64 * 1000);
        let done = stage.index as u64 * 1000 + thousandths(stage.tokens_done, stage.tokens);
        let first = self.stage.lock().unwrap_or_else(|e| e.into_inner()).replace(stage.clone()).is_none();
        if first {
            self.done_before.store(done, Ordering::Relaxed);
        }
        self.bar.set_position(done);
        self.bar.set_message(stage.name.clone());
    }

    fn chunk_done(&self, tokens: usize) {
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        let mut stage = self.stage.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(stage) = stage.as_mut() {
            stage.tokens_done += tokens;
            self.bar.set_position(stage.index as u64 * 1000 + thousandths(stage.tokens_done, stage.tokens));
        }
        drop(stage);
        self.update();
    }

    fn bytes_read(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.update();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn thousandths(part: usize, whole: usize) -> u64 {
    (part * 1000 / whole.max(1)) as u64
}

/// Seconds as people say them.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
