//! run.json, profile.json and samples.jsonl: the files that people and scripts read first.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sli_cache::{Fingerprint, write_atomically};
use sli_core::{Result, SliError};
use sli_moe::{MoeSummary, RouterLoad};

use crate::dataset::Samples;
use crate::forecast::Speed;
use crate::output::logits::read_scores;
use crate::output::stats::Distribution;

/// run.json: what was run, on what, and how long it took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunReport {
    /// The model as it was named.
    pub model: String,
    /// The registry's name of its architecture.
    pub architecture: String,
    /// Its family.
    pub family: String,
    /// Layers of all stacks.
    pub num_layers: usize,
    /// Samples that went through.
    pub num_samples: usize,
    /// Tokens that went through, of all stacks.
    pub num_tokens: usize,
    /// Samples that were cut to the maximal length.
    pub num_truncated: usize,
    /// Bad records that were skipped.
    pub num_skipped: usize,
    /// Arithmetic of the matrix products.
    pub dtype: String,
    /// The device.
    pub device: String,
    /// Versions of this program and of what its numbers depend on.
    pub versions: BTreeMap<String, String>,
    /// Wall-clock seconds, of all processes that worked on the run.
    pub seconds: f64,
    /// How that compares with what was foreseen, on a machine that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Weight bytes read.
    pub bytes_read: u64,
    /// Bytes of outputs in the directory.
    pub bytes_written: u64,
    /// Where activations waited.
    pub activations: String,
    /// The largest resident size of the process that finished the run, in bytes.
    pub peak_memory: u64,
    /// Chunks and their tokens.
    pub chunk_tokens: usize,
    /// About the experts, where there are any.
    pub moe: Option<MoeSummary>,
    /// How much of all experts was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertReads>,
    /// Seconds and bytes by stage.
    pub layers: Vec<LayerProfile>,
    /// What made this run this run; a second one with the same is not run again.
    pub fingerprint: Fingerprint,
}

/// The embedding, a layer, or what comes after the layers; while a run is under way, also a part of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerProfile {
    /// As in `layer_0003` or `encoder_final`.
    pub name: String,
    /// What it is: `embedding`, `attention + gated MLP`, `Mamba`, ...
    pub kind: String,
    /// The distribution of its output, unless statistics are off.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// Which experts were busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterProfile>,
    /// How much of the layer's experts was read, in this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertReads>,
    /// Weight bytes read.
    pub bytes: u64,
    /// Seconds that reading took, mostly beside the computing.
    pub read_seconds: f64,
    /// Seconds of computing, without waiting for weights.
    pub compute_seconds: f64,
    /// Seconds that the computing waited for weights.
    pub wait_seconds: f64,
    /// Seconds of writing outputs and activations, mostly beside the computing.
    pub write_seconds: f64,
}

impl LayerProfile {
    /// One profile per layer from those of stages, of which a layer may have had two.
    pub(crate) fn of_layers(stages: &[Self]) -> Vec<Self> {
        let mut layers: Vec<Self> = Vec::with_capacity(stages.len());
        for stage in stages.iter().cloned() {
            match layers.last_mut().filter(|last| last.name == stage.name) {
                Some(first) => *first = first.clone().followed_by(stage),
                None => layers.push(stage),
            }
        }
        layers
    }

    fn followed_by(self, second: Self) -> Self {
        Self {
            bytes: self.bytes + second.bytes,
            read_seconds: self.read_seconds + second.read_seconds,
            compute_seconds: self.compute_seconds + second.compute_seconds,
            wait_seconds: self.wait_seconds + second.wait_seconds,
            write_seconds: self.write_seconds + second.write_seconds,
            ..second
        }
    }
}

/// How evenly a router used its experts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterProfile {
    /// Tokens and weight of each expert.
    #[serde(flatten)]
    pub load: RouterLoad,
    /// Entropy of the experts' shares in nats: ln(experts) when all do alike.
    pub entropy: f64,
    /// The share of the expert that was chosen most.
    pub busiest_share: f64,
}

impl From<&RouterLoad> for RouterProfile {
    fn from(load: &RouterLoad) -> Self {
        Self { load: load.clone(), entropy: load.entropy(), busiest_share: load.busiest_share() }
    }
}

/// How many bytes of experts were read, of how many there are. Experts that no token chose are not read; where memory
/// does not hold all chunks at once, experts are read once for each wave of chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertReads {
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes of all experts.
    pub bytes: u64,
}

impl ExpertReads {
    /// Over all layers with experts; `None` without any.
    pub(crate) fn sum(layers: &[LayerProfile]) -> Option<Self> {
        layers.iter().filter_map(|layer| layer.experts).reduce(|sum, layer: Self| Self {
            bytes_read: sum.bytes_read + layer.bytes_read,
            bytes: sum.bytes + layer.bytes,
        })
    }
}

/// A line of samples.jsonl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleLine {
    /// Which sample, in the order of the dataset.
    pub index: usize,
    /// Echoed from the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// Its tokens; of an encoder-decoder, those that the encoder reads.
    pub num_tokens: usize,
    /// Was it cut?
    pub truncated: bool,
    /// The sum over its scored tokens, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_likelihood: Option<f64>,
    /// exp of minus the mean over its scored tokens; nothing when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
}

/// Writes samples.jsonl; with scores when they were computed, for tokens of `scored_stack`.
pub(crate) fn write_samples(
    output: &Path,
    samples: &Samples,
    scored_stack: Option<usize>,
) -> Result<Vec<SampleLine>> {
    let scores = scored_stack.map(|_| read_scores(output)).transpose()?;
    let lines: Vec<SampleLine> = samples
        .samples
        .iter()
        .enumerate()
        .map(|(index, sample)| {
            let score = scores.as_ref().zip(scored_stack).map(|(scores, stack)| {
                let rows = samples.sequences(stack).rows(index..index + 1);
                let from = if stack == 0 { sample.scored_from } else { 1 };
                let scored = scores.get(rows).and_then(|rows| rows.get(from..)).unwrap_or_default();
                // An empty `sum()` would be -0.
                let sum = scored.iter().fold(0.0, |sum, v| sum + f64::from(*v));
                (sum, (!scored.is_empty()).then(|| (-sum / scored.len() as f64).exp()))
            });
            SampleLine {
                index,
                id: sample.id.clone(),
                num_tokens: samples.input.length(index),
                truncated: sample.truncated,
                log_likelihood: score.map(|(sum, _)| sum),
                perplexity: score.and_then(|(_, perplexity)| perplexity),
            }
        })
        .collect();
    let text: String = lines.iter().map(|line| json_text(line) + "\n").collect();
    write_atomically(output.join("samples.jsonl"), text.as_bytes())?;
    Ok(lines)
}

/// Writes profile.json.
pub(crate) fn write_profile(output: &Path, layers: &[LayerProfile]) -> Result<()> {
    write_atomically(output.join("profile.json"), pretty_text(&layers).as_bytes())
}

/// Writes run.json, which says that the run is finished.
pub(crate) fn write_run(output: &Path, report: &RunReport) -> Result<()> {
    write_atomically(output.join("run.json"), pretty_text(report).as_bytes())
}

/// The report of a finished run in this directory, if there is one.
///
/// # Errors
/// `Usage` when there is a run.json that is not ours.
pub(crate) fn finished_run(output: &Path) -> Result<Option<RunReport>> {
    let path = output.join("run.json");
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SliError::io("cannot read", path)(error)),
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
            let (path, output) = (path.display(), output.display());
            SliError::Usage(format!(
                "{path} was not written by this version ({error}): {output} belongs to another run"
            ))
        }),
    }
}

/// Reads samples.jsonl back.
pub(crate) fn read_samples(output: &Path) -> Result<Vec<SampleLine>> {
    let path = output.join("samples.jsonl");
    let text = std::fs::read_to_string(&path).map_err(SliError::io("cannot read", &path))?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    lines.map_err(|error| SliError::Config { path, message: error.to_string() })
}

fn json_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| unreachable!("reports are plain data: {error}"))
}

fn pretty_text(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value)
        .unwrap_or_else(|error| unreachable!("reports are plain data: {error}"))
        + "\n"
}
