//! What this machine can do: measured once, in a second or two, and kept.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use half::bf16;
use serde::{Deserialize, Serialize};
use sli_cache::write_atomically;
use sli_core::Result;
use sli_kernels::{Attention, Format, Matrix, Precision, add_rms_norm, attention, linear};
use sli_weights::Checkpoint;

/// How fast the processor computes what runs are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComputeRates {
    /// Floating-point operations per second of products with a weight matrix in bf16, by rows of the other factor.
    pub products: Vec<(usize, f64)>,
    /// The same with weights of 8 bits, which are decoded on their way.
    pub coded_products: Vec<(usize, f64)>,
    /// Those of attention.
    pub attention: f64,
    /// f32 values per second that a norm with its residual passes over.
    pub touched_floats: f64,
}

/// Rates of the processor and of the disk that holds a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineRates {
    /// Bytes per second of reading the model's files in sequence.
    pub disk: f64,
    /// The processor.
    pub compute: ComputeRates,
}

impl ComputeRates {
    /// Operations per second of products with this many rows, between the measured ones on a logarithmic scale; with
    /// weights that have to be decoded, or not.
    pub fn product(&self, rows: usize, coded: bool) -> f64 {
        let (rows, products) = (rows.max(1), if coded { &self.coded_products } else { &self.products });
        let above = products.iter().position(|(measured, _)| *measured >= rows);
        match (above, products.last()) {
            (Some(0), _) => products[0].1 * rows as f64 / products[0].0 as f64,
            (Some(above), _) => {
                let ((low, low_rate), (high, high_rate)) = (products[above - 1], products[above]);
                let part = (rows as f64 / low as f64).ln() / (high as f64 / low as f64).ln();
                low_rate + (high_rate - low_rate) * part
            }
            (None, Some((_, rate))) => *rate,
            (None, None) => f64::NAN,
        }
    }

    /// The faster of two measurements, rate by rate: what else the machine did only slows them.
    fn fastest(self, other: Self) -> Self {
        let products = |ours: Vec<(usize, f64)>, theirs: Vec<(usize, f64)>| {
            ours.into_iter().zip(theirs).map(|((rows, our), (_, their))| (rows, our.max(their))).collect()
        };
        Self {
            products: products(self.products, other.products),
            coded_products: products(self.coded_products, other.coded_products),
            attention: self.attention.max(other.attention),
            touched_floats: self.touched_floats.max(other.touched_floats),
        }
    }

    /// The best rate of products that was measured.
    pub fn peak(&self) -> f64 {
        self.products.iter().map(|(_, rate)| *rate).fold(0.0, f64::max)
    }
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
/// Each kernel is repeated for about this long,
const REPEATING: Duration = Duration::from_millis(25);
/// in so many rounds through all of them.
const ROUNDS: usize = 3;
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

/// Columns of the measured matrices.
const COLUMNS: usize = 2048;
/// Rows of each.
const ROWS: usize = 4096;
/// Rows and columns of 8-bit weights that share a scale.
const BLOCK: usize = 128;
/// Their scales.
const SCALES: [f32; ROWS / BLOCK * (COLUMNS / BLOCK)] = [0.01; ROWS / BLOCK * (COLUMNS / BLOCK)];
/// As many matrices in turn, so that each comes from memory as a layer's weights do, and not from a cache.
const MATRICES: usize = 4;
/// Rows of the other factor.
const TOKENS: [usize; 5] = [1, 8, 32, 128, 512];

/// The rates, and the share of the processor that this program had while it took them, where the system tells.
fn measure_compute(precision: Precision) -> (ComputeRates, Option<f64>) {
    let most = TOKENS[TOKENS.len() - 1];
    let weights: Vec<bf16> =
        (0..MATRICES * ROWS * COLUMNS).map(|i| bf16::from_f32((i % 251) as f32 * 0.001 - 0.125)).collect();
    let x: Vec<f32> = (0..most * COLUMNS).map(|i| (i % 127) as f32 * 0.01 - 0.6).collect();
    let round = || ComputeRates {
        products: rates(precision, &x, |part| Format::Bf16(&weights[part])),
        coded_products: rates(precision, &x, |part| Format::Fp8E4m3 {
            codes: &bytemuck::cast_slice(&weights)[part],
            scales: &SCALES,
            block_rows: BLOCK,
            block_columns: BLOCK,
        }),
        attention: measure_attention(precision, &x),
        touched_floats: measure_norm(&x),
    };
    let (start, before) = (Instant::now(), processor_seconds());
    let rates = (1..ROUNDS).fold(round(), |rates, _| rates.fastest(round()));
    let available = start.elapsed().as_secs_f64() * rayon::current_num_threads() as f64;
    let used = before.zip(processor_seconds()).map(|(before, after)| after - before);
    (rates, used.map(|used| used / available))
}

/// Seconds that all threads of this process computed so far; `None` where the system does not tell.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may hold anything: the state, and eleven fields later the user's and the system's hundredths.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let hundredths = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((hundredths(11)? + hundredths(12)?) / 100.0)
}

/// Operations per second of products with weights in a format, given which of all weights a matrix has, by rows of x.
fn rates<'a>(
    precision: Precision,
    x: &[f32],
    format: impl Fn(Range<usize>) -> Format<'a>,
) -> Vec<(usize, f64)> {
    let mut y = vec![0.0; x.len() / COLUMNS * ROWS];
    let rate = |tokens| {
        let mut turn = 0;
        let seconds = seconds_each(|| {
            let format = format(turn * ROWS * COLUMNS..(turn + 1) * ROWS * COLUMNS);
            turn = (turn + 1) % MATRICES;
            let (matrix, x) = (Matrix { rows: ROWS, columns: COLUMNS, format }, &x[..tokens * COLUMNS]);
            linear(x.into(), &matrix, None, precision, &mut y[..tokens * ROWS]);
        });
        (tokens, 2.0 * (tokens * ROWS * COLUMNS) as f64 / seconds)
    };
    TOKENS.map(rate).to_vec()
}

/// One sample of 256 tokens, 16 heads of 64.
fn measure_attention(precision: Precision, x: &[f32]) -> f64 {
    let (length, heads, head_dim) = (256, 16, 64);
    let shape = Attention::causal([heads, heads], [head_dim, head_dim], 0.125);
    let rows = &x[..length * heads * head_dim];
    let mut out = vec![0.0; rows.len()];
    let offsets = [0, length];
    let seconds =
        seconds_each(|| attention(&shape, rows, rows, rows, &offsets, &offsets, precision, &mut out));
    let pairs = length * (length + 1) / 2;
    (2 * pairs * heads * 2 * head_dim) as f64 / seconds
}

fn measure_norm(x: &[f32]) -> f64 {
    let (mut residual, mut y) = (x.to_vec(), vec![0.0; x.len()]);
    let seconds = seconds_each(|| add_rms_norm(&mut residual, x, COLUMNS, None, 1e-5, &mut y));
    // The residual is read and written, the branch read, the normed written.
    3.0 * x.len() as f64 / seconds
}

/// The median time of a repeated call.
fn seconds_each(mut call: impl FnMut()) -> f64 {
    call();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 2 || start.elapsed() < REPEATING {
        let start = Instant::now();
        call();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2].max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_between_the_measured_ones_lie_between_them() {
        let rates = ComputeRates {
            products: vec![(1, 10.0), (8, 40.0), (64, 100.0)],
            coded_products: vec![(1, 20.0)],
            attention: 1.0,
            touched_floats: 1.0,
        };
        assert_eq!(rates.product(0, false), 10.0);
        assert_eq!(rates.product(8, false), 40.0);
        assert!((rates.product(23, false) - 70.0).abs() < 1.0, "{}", rates.product(23, false));
        assert_eq!(rates.product(5000, false), 100.0);
        assert_eq!((rates.peak(), rates.product(5, true)), (100.0, 20.0));
    }

    #[test]
    fn what_slows_a_round_does_not_count() {
        let round = |first, second, attention| ComputeRates {
            products: vec![(1, first), (8, second)],
            coded_products: vec![(1, second)],
            attention,
            touched_floats: attention,
        };
        assert_eq!(round(1.0, 5.0, 2.0).fastest(round(3.0, 4.0, 1.0)), round(3.0, 5.0, 2.0));
    }

    #[test]
    fn rates_of_a_busy_machine_are_kept_for_an_hour() {
        let hours_ago =
            |hours: u64, disturbed| Timed { at: seconds_since_1970() - hours * 3600, disturbed, rates: () };
        assert!(hours_ago(2, false).is_recent() && Timed::now((), true).is_recent());
        assert!(!hours_ago(2, true).is_recent() && !hours_ago(8 * 24, false).is_recent());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_processor_s_time_is_counted() {
        let (start, before) = (Instant::now(), processor_seconds().unwrap());
        let mut sum = 0.0f64;
        while processor_seconds().unwrap() < before + 0.05 {
            sum = std::hint::black_box(sum + start.elapsed().as_secs_f64());
            assert!(start.elapsed() < Duration::from_secs(60), "no time passes");
        }
    }
}
