//! One run: from options and dataset to a finished output directory.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::{Duration, Instant};

use burn::backend::{Flex, NdArray};
use sli_cache::{Fingerprint, RunJournal, activation_states};
use sli_core::{Dtype, Result, SliError, StackSpec, WeightFormat};
use sli_layers::Precision;

use crate::chunks::Chunks;
use crate::dataset::{Dataset, Samples, Tokenization};
use crate::forecast::{Forecast, MachineRates, Measuring, RunPlan, Speed, WorkCounter};
use crate::integrator::{RunResult, UniversalSliIntegrator};
use crate::job::Job;
use crate::options::{ComputeDtype, Device, HiddenDtype, Logits, RunOptions};
use crate::output::{
    ExpertReads, LayerProfile, RunReport, finished_run, output_bytes, read_samples, remove_outputs,
    write_profile, write_run, write_samples,
};
use crate::pipeline::{Past, Totals};
use crate::plan::{MemoryPlan, Situation};
use crate::system_memory::{default_memory, resident_memory};
use crate::weight_sizes::WeightSizes;

/// Models of more bytes take so long that measuring the machine before a run does not matter.
const LARGE_MODEL: u64 = 8 << 30;

/// A run that was checked against the model.
pub(crate) struct Run<'a> {
    sli: &'a UniversalSliIntegrator,
    options: &'a RunOptions,
    precision: Precision,
    hidden_dtype: HiddenDtype,
}

impl<'a> Run<'a> {
    /// Checks the options against the model.
    pub(crate) fn new(sli: &'a UniversalSliIntegrator, options: &'a RunOptions) -> Result<Self> {
        let (spec, unread) = (&sli.model.spec, &sli.model.unread_keys);
        for stack in &spec.stacks {
            options.hidden_states.check(stack.layers.len())?;
        }
        if options.score && !sli.model.can_score() {
            let name = &spec.architecture;
            return Err(SliError::Usage(format!(
                "--score: {name} does not predict a token from those before it, so there is nothing to score"
            )));
        }
        match (options.logits, &spec.head) {
            (Logits::Top(k), Some(head)) if k > head.vocab_size => {
                return Err(SliError::Usage(format!(
                    "--logits top:{k}: there are {} logits",
                    head.vocab_size
                )));
            }
            (Logits::None, _) | (_, Some(_)) => {}
            (_, None) => tracing::warn!("this checkpoint has no head: there will be no logits"),
        }
        if let (Some(limit), Some(positions)) = (options.max_length, learned_positions(sli))
            && limit > positions
        {
            return Err(SliError::Usage(format!(
                "--max-length {limit}: the model has {positions} positions"
            )));
        }
        if options.batch_size == Some(0) || options.max_length == Some(0) {
            return Err(SliError::Usage("--batch-size and --max-length count from one".into()));
        }
        if !unread.is_empty() {
            let keys = unread.join(", ");
            if options.strict {
                return Err(SliError::Usage(format!(
                    "--strict: config.json has keys that nobody understands: {keys}"
                )));
            }
            tracing::warn!("config.json has keys that are not understood and may change results: {keys}");
        }
        let precision = match options.dtype {
            ComputeDtype::F32 => Precision::F32,
            ComputeDtype::Bf16 => Precision::Bf16,
            ComputeDtype::Auto => match sli.model.summary.weight_dtype {
                WeightFormat::Plain(Dtype::F64 | Dtype::F32 | Dtype::F16) => Precision::F32,
                _ => Precision::Bf16,
            },
        };
        let hidden_dtype = options.hidden_dtype.unwrap_or(match precision {
            Precision::F32 => HiddenDtype::F32,
            Precision::Bf16 => HiddenDtype::Bf16,
        });
        Ok(Self { sli, options, precision, hidden_dtype })
    }

    /// Runs the dataset, or goes on with it, or finds it done.
    pub(crate) fn run(&self, dataset: &Dataset) -> Result<RunResult> {
        let started = Instant::now();
        let samples = self.samples(dataset)?;
        let fingerprint = self.fingerprint(&samples);
        if let Some(result) = self.finished(&fingerprint)? {
            return Ok(result);
        }
        // Too small a memory is found before anything is written.
        let (resident, _) = resident_memory();
        self.memory_plan(&samples, resident, None, None)?;

        let (output, activations) = (&self.sli.output_dir, &self.sli.activation_dir);
        if self.options.fresh {
            RunJournal::fresh(activations)?;
            remove_outputs(output)?;
        }
        let begun = activations.exists() && !activation_states(activations)?.is_empty();
        let (journal, resumed) = RunJournal::open_or_create(activations, &fingerprint)
            .map_err(|error| in_directory(error, output))?;
        if begun && resumed.is_none() {
            // A run, maybe of something else, died here before its first commit: what it wrote belongs to nobody.
            remove_outputs(output)?;
        }
        let past = resumed.map(|resumed| Past::new(resumed, journal.dir())).transpose()?;
        // A second of measuring is worth it only for runs that take much longer.
        let large = self.sli.model.summary.weight_bytes > LARGE_MODEL;
        let machine = self.machine(if large { Measuring::Missing } else { Measuring::Never })?;
        let plan = self.memory_plan(&samples, resident, machine.as_ref(), past.as_ref())?;
        std::fs::create_dir_all(output).map_err(SliError::io("cannot create", output))?;

        let (sli, options) = (self.sli, self.options);
        let forecast = machine.map(|machine| self.forecast(&samples, &plan, machine, started.elapsed()));
        options.observer.planned(&RunPlan {
            samples: samples.len(),
            tokens: samples.num_tokens(),
            memory: plan.clone(),
            forecast: forecast.clone(),
        });
        let job = Job {
            sli,
            options,
            precision: self.precision,
            hidden_dtype: self.hidden_dtype,
            samples: &samples,
            chunks: &Chunks::new(&samples, plan.chunk_tokens, options.batch_size),
            plan: &plan,
            past: past.as_ref(),
            started,
        };
        let (totals, committer) = match self.sli.device {
            Device::Cpu => job.on::<Flex>(journal, Default::default())?,
            Device::NdArray => job.on::<NdArray>(journal, Default::default())?,
            #[cfg(feature = "cuda")]
            Device::Cuda(number) => {
                job.on::<burn::backend::Cuda>(journal, burn::backend::cuda::CudaDevice::new(number))?
            }
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => unreachable!("refused when the integrator was built"),
        };
        let speed = Speed::new(forecast, totals.seconds());
        let result = self.write_reports(&samples, &plan, &totals, speed, fingerprint, past.is_some())?;
        committer.finish()?;
        Ok(result)
    }

    /// What a run of these samples would do, and how long it would take, which were `prepared` in that time.
    pub(crate) fn foresee(
        &self,
        samples: &Samples,
        measuring: Measuring,
        prepared: Duration,
    ) -> Result<RunPlan> {
        let machine = self.machine(measuring)?;
        let memory = self.memory_plan(samples, resident_memory().0, machine.as_ref(), None)?;
        let forecast = machine.map(|machine| self.forecast(samples, &memory, machine, prepared));
        let (samples, tokens) = (samples.len(), samples.num_tokens());
        Ok(RunPlan { samples, tokens, memory, forecast })
    }

    /// A dataset as tokens, cut to what the model takes.
    pub(crate) fn samples(&self, dataset: &Dataset) -> Result<Samples> {
        let model = &self.sli.model;
        let max_length = self.options.max_length.or(model.spec.max_length);
        let (model_dir, spec, skip_bad) = (&model.directory, &model.spec, self.options.skip_bad);
        let samples = Tokenization { model_dir, spec, max_length, skip_bad }.samples(dataset)?;
        if spec.is_encoder_decoder() && samples.decoder_input.is_none() {
            if self.options.score {
                return Err(SliError::Usage("--score: the records have no 'target' to score".into()));
            }
            tracing::warn!("the records have no 'target' or 'decoder_input_ids': only the encoder will run");
        }
        if samples.num_truncated() > 0 {
            let (cut, limit) = (samples.num_truncated(), max_length.unwrap_or(0));
            tracing::warn!("{cut} of {} samples are longer than {limit} tokens and were cut", samples.len());
        }
        Ok(samples)
    }

    /// What this machine can do; `None` when that is not known and not to be measured.
    fn machine(&self, measuring: Measuring) -> Result<Option<MachineRates>> {
        MachineRates::find(self.sli.model.layout.checkpoint(), self.precision, measuring)
    }

    fn memory_plan(
        &self,
        samples: &Samples,
        resident: u64,
        machine: Option<&MachineRates>,
        past: Option<&Past>,
    ) -> Result<MemoryPlan> {
        let model = &self.sli.model;
        let sizes = &WeightSizes::of(model, self.options.layers_in_parts)?;
        let memory = self.options.memory.unwrap_or_else(default_memory);
        let decided = past.map(|past| (past.last.chunk_tokens, past.last.spilled));
        let (spec, options, most_abreast) = (&model.spec, self.options, self.sli.device.most_abreast());
        Situation { spec, samples, options, sizes, machine, most_abreast, resident, memory, decided }.plan()
    }

    /// How long a run takes on a machine.
    fn forecast(
        &self,
        samples: &Samples,
        plan: &MemoryPlan,
        machine: MachineRates,
        prepared: Duration,
    ) -> Forecast {
        let (model, options, hidden_dtype) = (&self.sli.model, self.options, self.hidden_dtype);
        let stages = WorkCounter { model, samples, options, plan, hidden_dtype }.stages();
        let chunks = Chunks::new(samples, plan.chunk_tokens, options.batch_size);
        Forecast::new(&stages, chunks.mean_tokens(samples), plan, machine, prepared)
    }

    /// Everything that changes the results.
    fn fingerprint(&self, samples: &Samples) -> Fingerprint {
        let (model, options) = (&self.sli.model, self.options);
        let mut dataset = DefaultHasher::new();
        samples.hash(&mut dataset);
        Fingerprint::new()
            .with("program", env!("CARGO_PKG_VERSION"))
            .with("model", &model.summary.model)
            .with("config", format!("{:016x}", model.config_hash))
            .with("weights", format!("{:016x}", model.weights_hash))
            .with("dataset", format!("{} samples, {:016x}", samples.len(), dataset.finish()))
            .with("device", self.sli.device)
            .with("dtype", precision_name(self.precision))
            .with("batch size", options.batch_size.map_or("chosen by the plan".into(), |n| n.to_string()))
            .with("hidden states", &options.hidden_states)
            .with("hidden dtype", self.hidden_dtype)
            .with("pool", options.pool)
            .with("logits", options.logits)
            .with("score", options.score)
            .with("stats", options.stats)
    }

    /// The result of the same run, if the output directory holds it finished.
    fn finished(&self, fingerprint: &Fingerprint) -> Result<Option<RunResult>> {
        let output = &self.sli.output_dir;
        if self.options.fresh {
            return Ok(None);
        }
        let Some(report) = finished_run(output)? else { return Ok(None) };
        let differences = report.fingerprint.differences(fingerprint);
        if !differences.is_empty() {
            return Err(SliError::Usage(format!(
                "{} holds the finished run of something else ({}): choose another --output, or replace it with --fresh",
                output.display(),
                differences.join("; ")
            )));
        }
        // A crash may have come between run.json and the removal of the journal.
        RunJournal::fresh(&self.sli.activation_dir)?;
        Ok(Some(RunResult { already_finished: true, ..self.result(report, read_samples(output)?) }))
    }

    fn write_reports(
        &self,
        samples: &Samples,
        plan: &MemoryPlan,
        totals: &Totals,
        speed: Option<Speed>,
        fingerprint: Fingerprint,
        resumed: bool,
    ) -> Result<RunResult> {
        let (output, summary) = (&self.sli.output_dir, &self.sli.model.summary);
        let scored_stack = self.options.score.then(|| self.sli.model.spec.stacks.len() - 1);
        let lines = write_samples(output, samples, scored_stack)?;
        let layers = LayerProfile::of_layers(&totals.profiles);
        write_profile(output, &layers)?;
        let report = RunReport {
            model: summary.model.clone(),
            architecture: summary.architecture.clone(),
            family: summary.family.to_string(),
            num_layers: summary.num_layers,
            num_samples: samples.len(),
            num_tokens: samples.num_tokens(),
            num_truncated: samples.num_truncated(),
            num_skipped: samples.skipped,
            dtype: precision_name(self.precision).into(),
            device: self.sli.device.to_string(),
            versions: versions(),
            seconds: totals.seconds(),
            speed,
            bytes_read: totals.bytes_read(),
            bytes_written: output_bytes(output),
            activations: if plan.spilled { "disk" } else { "memory" }.into(),
            peak_memory: resident_memory().1,
            chunk_tokens: plan.chunk_tokens,
            moe: summary.moe.clone(),
            experts: ExpertReads::sum(&layers),
            layers,
            fingerprint,
        };
        write_run(output, &report)?;
        Ok(RunResult { resumed, ..self.result(report, lines) })
    }

    fn result(&self, report: RunReport, samples: Vec<crate::output::SampleLine>) -> RunResult {
        RunResult {
            num_layers: report.num_layers,
            num_samples: report.num_samples,
            num_tokens: report.num_tokens,
            output_dir: self.sli.output_dir.clone(),
            already_finished: false,
            resumed: false,
            samples,
            report,
        }
    }
}

fn learned_positions(sli: &UniversalSliIntegrator) -> Option<usize> {
    sli.model.spec.stacks.iter().filter_map(StackSpec::position_rows).min()
}

fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

fn versions() -> BTreeMap<String, String> {
    let versions = [
        ("sli", env!("CARGO_PKG_VERSION").to_string()),
        ("burn", "0.21.0".to_string()),
        ("instruction_set", sli_kernels::isa().name().to_string()),
    ];
    versions.into_iter().map(|(name, version)| (name.to_string(), version)).collect()
}

/// What the journal says of its own directory is said of the output directory, which is the one a user knows.
fn in_directory(error: SliError, output: &Path) -> SliError {
    match error {
        SliError::OtherRun { differences, .. } => SliError::OtherRun { path: output.into(), differences },
        other => other,
    }
}
