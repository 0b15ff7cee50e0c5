//! Whole runs against other programs: the same checkpoints and tokens, cold caches, memory limits, in turns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::cgroup::Cgroup;
use crate::synth::synth;
use crate::{Result, root, succeed};

/// What is run.
pub(super) struct Case {
    pub(super) shape: &'static str,
    task: Task,
    pub(super) samples: usize,
    pub(super) length: usize,
    /// Bytes that peers may use.
    peer_limit: u64,
    /// Bytes that we may use.
    limit: u64,
}

/// What is wanted of the samples.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Log-likelihoods of all tokens and the hidden states after the final norm, of token ids.
    Score,
    /// The mean of the last hidden states, of texts.
    Embed,
}

impl Task {
    /// The peers that can do it.
    fn peers(self) -> &'static [&'static str] {
        match self {
            Self::Score => &["accelerate", "airllm", "llama_cpp", "loop"],
            Self::Embed => &["sentence_transformers", "sentence_transformers_bf16"],
        }
    }

    /// The options of ours for it.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Score => &["--score", "--no-stats"],
            Self::Embed => &["--pool", "mean", "--no-stats"],
        }
    }
}

impl Case {
    /// A dense model that scores samples within a gigabyte, without peers.
    pub(super) const fn scored(shape: &'static str, samples: usize, length: usize) -> Self {
        scored(shape, samples, length, 0, 1_000_000_000)
    }
}

const fn scored(shape: &'static str, samples: usize, length: usize, peer_limit: u64, limit: u64) -> Case {
    Case { shape, task: Task::Score, samples, length, peer_limit, limit }
}

const CASES: [Case; 7] = [
    scored("tinyllama-1.1b", 16, 32, 1_500_000_000, 1_500_000_000),
    scored("tinyllama-1.1b", 32, 128, 1_500_000_000, 1_500_000_000),
    scored("llama-6.7b", 16, 32, 4_000_000_000, 1_000_000_000),
    scored("llama-6.7b", 8, 128, 4_000_000_000, 1_000_000_000),
    scored("moe-bench", 1, 16, 0, 1_000_000_000),
    scored("moe-bench", 16, 128, 0, 1_000_000_000),
    Case {
        shape: "minilm-l6",
        task: Task::Embed,
        samples: 100_000,
        length: 8,
        peer_limit: 8_000_000_000,
        limit: 8_000_000_000,
    },
];

/// What the command line says.
pub(super) struct Options {
    pub(super) data: PathBuf,
    pub(super) python: String,
    pub(super) repeats: usize,
    pub(super) words: Vec<String>,
    pub(super) peers: Vec<String>,
}

/// One measurement.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    /// The control group's peak, page cache included.
    pub(super) peak: u64,
}

/// Runs all cases that contain one of the words, prints a table for each, and writes all figures as JSON.
pub(super) fn models(options: &Options) -> Result {
    succeed(Command::new("cargo").args(["build", "--release", "--quiet", "--package", "sli-cli"]))?;
    std::fs::create_dir_all(&options.data)?;
    let mut results = Vec::new();
    for case in &CASES {
        let name = format!("{} {}x{}", case.shape, case.samples, case.length);
        if options.words.is_empty() || options.words.iter().any(|word| name.contains(word.as_str())) {
            results.push(Bench::new(case, name, options)?.run()?);
        }
    }
    let path = options.data.join("results.json");
    std::fs::write(&path, serde_json::to_string_pretty(&results)? + "\n")?;
    println!("All figures: {}", path.display());
    Ok(())
}

/// A case with what it needs on disk.
pub(super) struct Bench<'a> {
    case: &'a Case,
    name: String,
    options: &'a Options,
    model: PathBuf,
    dataset: PathBuf,
    peers: Vec<String>,
}

impl<'a> Bench<'a> {
    /// Makes what the case needs: the checkpoint, the dataset, and what the peers want beside them.
    pub(super) fn new(case: &'a Case, name: String, options: &'a Options) -> Result<Self> {
        let model = options.data.join(case.shape);
        if !model.join("model.safetensors.index.json").exists() {
            synth(case.shape, false, &model)?;
        }
        let dataset = options.data.join(format!("{}x{}.jsonl", case.samples, case.length));
        std::fs::write(&dataset, records(case))?;
        if case.task == Task::Embed {
            write_tokenizer(&model)?;
        }
        // Peers run dense models only.
        let present: Vec<String> = match case.peer_limit {
            0 => Vec::new(),
            _ => serde_json::from_value(python(options, &["list"])?).unwrap_or_default(),
        };
        let able = |peer: &str| case.task.peers().contains(&peer);
        let wanted = |peer: &String| able(peer) && (options.peers.is_empty() || options.peers.contains(peer));
        let peers: Vec<String> = present.into_iter().filter(wanted).collect();
        let bench = Self { case, name, options, model, dataset, peers };
        for peer in &bench.peers {
            python(options, &["prepare", peer, path_text(&bench.model)?])?;
        }
        Ok(bench)
    }

    fn run(&self) -> Result<Value> {
        let mut seconds: BTreeMap<String, Vec<Measured>> = BTreeMap::new();
        let (mut limits, mut forecasts, mut weights) = (Vec::new(), Vec::new(), Value::Null);
        for _ in 0..self.options.repeats {
            let forecast = self.plan()?["forecast"].take();
            weights = forecast["work"].clone();
            limits.push(self.limit_seconds(&forecast)?);
            forecasts.push(forecast["seconds"].as_f64().unwrap_or(f64::NAN));
            seconds.entry("sli".into()).or_default().push(self.ours()?);
            for peer in &self.peers {
                match self.peer(peer) {
                    Ok(measured) => seconds.entry(peer.clone()).or_default().push(measured),
                    Err(error) => eprintln!("{}: {peer}: {error}", self.name),
                }
            }
        }
        let limit = median(limits.clone());
        println!("\n{}: limit {limit:.2} s, foreseen {:.2} s", self.name, median(forecasts.clone()));
        println!("| program | seconds (least to most) | share of the limit | peak of the group, GB |");
        println!("|---|---|---|---|");
        for (program, measured) in &seconds {
            let all: Vec<f64> = measured.iter().map(|m| m.seconds).collect();
            let shares = all.iter().zip(&limits).map(|(seconds, limit)| 100.0 * limit / seconds).collect();
            let (least, most) =
                (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
            let peak = measured.iter().map(|m| m.peak).max().unwrap_or(0) as f64 / 1e9;
            let (middle, share) = (median(all), median(shares));
            println!("| {program} | {middle:.2} ({least:.2} to {most:.2}) | {share:.0} % | {peak:.2} |");
        }
        let measured: BTreeMap<_, Vec<_>> = seconds
            .iter()
            .map(|(name, all)| {
                (name, all.iter().map(|m| json!({"seconds": m.seconds, "peak": m.peak})).collect())
            })
            .collect();
        Ok(
            json!({"case": self.name, "limit_seconds": limits, "foreseen_seconds": forecasts, "work": weights, "programs": measured}),
        )
    }

    /// What the plan says, on a machine that is measured now.
    pub(super) fn plan(&self) -> Result<Value> {
        let mut command = self.sli("plan");
        let output = command.args(["--measure", "--json"]).stderr(Stdio::inherit()).output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Each weight byte once at the rate of `dd iflag=direct`, or each operation once at torch's rate of bf16 products.
    /// Without torch, and where there are no peers, at the best rate of our own.
    fn limit_seconds(&self, forecast: &Value) -> Result<f64> {
        let work = |name: &str| forecast["work"][name].as_f64().unwrap_or(0.0);
        let flops = work("dense_flops") + work("expert_flops") + work("attention_flops");
        let torch = (self.case.peer_limit > 0).then(|| python(self.options, &["gemm"]).ok()?.as_f64());
        let rate = match torch.flatten() {
            Some(rate) => rate,
            None => best_product_rate(forecast).ok_or("the plan has no rates")?,
        };
        Ok((work("weight_bytes") / self.disk_rate()?).max(flops / rate))
    }

    fn disk_rate(&self) -> Result<f64> {
        let (start, mut bytes) = (Instant::now(), 0);
        for entry in std::fs::read_dir(&self.model)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "safetensors") && bytes < 3 << 30 {
                let from = format!("if={}", path.display());
                let arguments = [from.as_str(), "of=/dev/null", "bs=16M", "iflag=direct", "status=none"];
                succeed(Command::new("dd").args(arguments))?;
                bytes += path.metadata()?.len();
            }
        }
        Ok(bytes as f64 / start.elapsed().as_secs_f64())
    }

    /// The whole process, from its start to its end.
    pub(super) fn ours(&self) -> Result<Measured> {
        let output = self.options.data.join("output");
        let _ = std::fs::remove_dir_all(&output);
        forget_files();
        let group = Cgroup::new("sli-bench", self.case.limit)?;
        let mut command = group.command(&self.sli("run"));
        command.arg("--output").arg(&output).arg("--quiet");
        let start = Instant::now();
        succeed(&mut command)?;
        Ok(Measured { seconds: start.elapsed().as_secs_f64(), peak: group.peak() })
    }

    /// From building the model to results, as the peer itself measures it: without its imports.
    fn peer(&self, peer: &str) -> Result<Measured> {
        forget_files();
        let group = Cgroup::new("sli-bench-peer", self.case.peer_limit)?;
        let mut script = Command::new(&self.options.python);
        script.arg(script_path()).args(["run", peer]).arg(&self.model);
        script.args([self.case.samples.to_string(), self.case.length.to_string()]);
        let whole = ["accelerate", "llama_cpp"].contains(&peer);
        if whole && self.case.samples * self.case.length > 2048 {
            // All samples at once are killed under the limit, or swap.
            script.arg("8");
        }
        let output = group.command(&script).stderr(Stdio::null()).output()?;
        let answer: Value =
            serde_json::from_slice(&output.stdout).map_err(|_| format!("ended with {}", output.status))?;
        let seconds = answer["seconds"].as_f64().ok_or("no seconds")?;
        Ok(Measured { seconds, peak: group.peak() })
    }

    fn sli(&self, task: &str) -> Command {
        let mut command = Command::new(root().join("target/release/sli-cli"));
        command.arg(task).arg(&self.model).arg("--dataset").arg(&self.dataset);
        // The limit of the group counts files' pages too, and the kernel wants some room.
        let memory = (self.case.limit / 100 * 95).to_string();
        command.args(["--memory", &memory, "--dtype", "bf16"]).args(self.case.task.options());
        command
    }
}

/// The best rate of products that the plan measured, in operations per second.
fn best_product_rate(forecast: &Value) -> Option<f64> {
    let products = forecast["machine"]["compute"]["products"].as_array()?;
    products.iter().filter_map(|product| product[1].as_f64()).reduce(f64::max)
}

fn script_path() -> PathBuf {
    root().join("xtask/src/bench/peers.py")
}

fn python(options: &Options, arguments: &[&str]) -> Result<Value> {
    let output =
        Command::new(&options.python).arg(script_path()).args(arguments).stderr(Stdio::null()).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}

/// Empties the page cache, where that is allowed.
fn forget_files() {
    let _ = Command::new("sync").status();
    if std::fs::write("/proc/sys/vm/drop_caches", "3").is_err() {
        eprintln!("note: the page cache cannot be emptied (are you root?): files may be read from memory");
    }
}

/// Words of the tokenizer for texts.
const WORDS: usize = 30_000;

/// Token ids by a fixed rule, or words that stand for them; which does not matter.
fn records(case: &Case) -> String {
    let Case { task, samples, length, .. } = *case;
    let id = |token: usize| 5 + token * 7919 % (WORDS - 10);
    let ids = |sample: usize| (0..length).map(move |i| id(sample * length + i));
    let record = |sample| match task {
        Task::Score => json!({ "input_ids": ids(sample).collect::<Vec<_>>() }),
        Task::Embed => json!({ "text": ids(sample).map(|id| format!("w{id} ")).collect::<String>() }),
    };
    (0..samples).map(|sample| record(sample).to_string() + "\n").collect()
}

/// A tokenizer whose words are `w0`, `w1`, ..., for us and for the peers.
fn write_tokenizer(model: &Path) -> Result {
    let vocab: BTreeMap<String, usize> = (0..WORDS).map(|id| (format!("w{id}"), id)).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
    });
    std::fs::write(model.join("tokenizer.json"), tokenizer.to_string())?;
    let settings =
        json!({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "w0", "pad_token": "w0"});
    Ok(std::fs::write(model.join("tokenizer_config.json"), settings.to_string())?)
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => (values[(count - 1) / 2] + values[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_two_lies_between_them() {
        assert_eq!(median(vec![35.0, 29.0]), 32.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
