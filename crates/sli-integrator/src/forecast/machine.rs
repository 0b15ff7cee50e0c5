//! What this machine can do: measured once, in a second or two, and kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sli_cache::write_atomically;
use sli_core::Result;
use sli_kernels::Precision;
use sli_weights::Checkpoint;

use super::measure::measure_compute;
use super::rates::ComputeRates;

/// Rates of the processor and of the disk that holds a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineRates {
    /// Bytes per second of reading the model's files in sequence.
    pub disk: f64,
    /// The processor.
    pub compute: ComputeRates,
}

/// The file with what was measured, by what was measured.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Measured {
    #[serde(default)]
    compute: BTreeMap<String, Timed<ComputeRates>>,
    #[serde(default)]
    disk: BTreeMap<String, Timed<f64>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Timed<T> {
    /// Seconds since 1970.
    at: u64,
    /// Did other work slow them?
    #[serde(default)]
    disturbed: bool,
    rates: T,
}

/// After this long things may have changed.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// After this long other work may be over.
const KEPT_WHERE_DISTURBED: Duration = Duration::from_secs(3600);
/// Reading takes at most this long.
const READING: Duration = Duration::from_millis(700);
/// The share of the processor that this program has where no other work slows it.
const UNDISTURBED: f64 = 0.85;

/// Where and how rates are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measuring {
    /// Only what was measured before is used.
    Never,
    /// What is not known is measured.
    Missing,
    /// Everything is measured again.
    Again,
}

impl MachineRates {
    /// The rates for a model's files and an arithmetic; `None` when they are not known and not to be measured.
    ///
    /// # Errors
    /// When the model's files cannot be read. What cannot be kept is measured again the next time.
    pub(crate) fn find(
        checkpoint: &Checkpoint,
        precision: Precision,
        measuring: Measuring,
    ) -> Result<Option<Self>> {
        let path = kept_in();
        let mut measured = path.as_deref().map(read).unwrap_or_default();
        let (compute_key, disk_key) = (compute_key(precision), disk_key(checkpoint.directory()));
        let mut compute =
            measured.compute.get(&compute_key).filter(|t| t.is_recent()).map(|t| t.rates.clone());
        let mut disk = measured.disk.get(&disk_key).filter(|t| t.is_recent()).map(|t| t.rates);
        if measuring == Measuring::Again {
            (compute, disk) = (None, None);
        }
        if (compute.is_none() || disk.is_none()) && measuring == Measuring::Never {
            return Ok(None);
        }
        let mut changed = false;
        if compute.is_none() {
            let (rates, share) = measure_compute(precision);
            let disturbed = share.is_some_and(|share| share < UNDISTURBED);
            measured.compute.insert(compute_key, Timed::now(rates.clone(), disturbed));
            (compute, changed) = (Some(rates), true);
        }
        if disk.is_none()
            && let Some((rate, telling)) = checkpoint.measure_read_rate(READING)?
        {
            disk = Some(rate);
            if telling {
                measured.disk.insert(disk_key, Timed::now(rate, false));
                changed = true;
            }
        }
        if let (true, Some(path)) = (changed, &path) {
            keep(path, &measured);
        }
        Ok(disk.zip(compute).map(|(disk, compute)| Self { disk, compute }))
    }
}

impl<T> Timed<T> {
    fn now(rates: T, disturbed: bool) -> Self {
        Self { at: seconds_since_1970(), disturbed, rates }
    }

    fn is_recent(&self) -> bool {
        let kept_for = if self.disturbed { KEPT_WHERE_DISTURBED } else { KEPT_FOR };
        seconds_since_1970().saturating_sub(self.at) < kept_for.as_secs()
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// `sli/machine.json` in the user's cache directory.
fn kept_in() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("sli").join("machine.json"))
}

/// What a file says; a missing or damaged one says nothing.
fn read(path: &Path) -> Measured {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn keep(path: &Path, measured: &Measured) {
    let written = path.parent().map(std::fs::create_dir_all).transpose().map_err(|error| error.to_string());
    let written = written.and_then(|_| {
        let text = serde_json::to_string_pretty(measured).map_err(|error| error.to_string())?;
        write_atomically(path, text.as_bytes()).map_err(|error| error.to_string())
    });
    if let Err(error) = written {
        tracing::debug!("what this machine can do is not kept: {error}");
    }
}

fn compute_key(precision: Precision) -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("processor", |(_, model)| model.trim());
    let (isa, threads) = (sli_kernels::isa().name(), rayon::current_num_threads());
    format!("{model}, {isa}, {threads} threads, {precision:?}")
}

#[cfg(unix)]
fn disk_key(directory: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(directory).map_or(0, |metadata| metadata.dev());
    format!("device {device}")
}

#[cfg(not(unix))]
fn disk_key(directory: &Path) -> String {
    directory.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_a_busy_machine_are_kept_for_an_hour() {
        let hours_ago =
            |hours: u64, disturbed| Timed { at: seconds_since_1970() - hours * 3600, disturbed, rates: () };
        assert!(hours_ago(2, false).is_recent() && Timed::now((), true).is_recent());
        assert!(!hours_ago(2, true).is_recent() && !hours_ago(8 * 24, false).is_recent());
    }
}
