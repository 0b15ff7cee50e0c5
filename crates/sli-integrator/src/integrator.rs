//! The public face: a model, opened once, through which datasets are run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use sli_core::{BlockSpec, ModelSpec, Result, SliError};
use sli_registry::{Architecture, ArchitectureRegistry};
use sli_weights::{HubOptions, UniversalWeightLoader};

use crate::dataset::{Dataset, Samples};
use crate::forecast::{Measuring, RunPlan};
use crate::layer_weights::LayerWeight;
use crate::model::{ModelSummary, OpenModel};
use crate::options::{Device, RunOptions};
use crate::output::{RunReport, SampleLine};
use crate::run::Run;

/// Runs datasets through one model, layer by layer.
#[derive(Debug)]
pub struct UniversalSliIntegrator {
    pub(crate) model: OpenModel,
    loader: UniversalWeightLoader,
    pub(crate) output_dir: PathBuf,
    pub(crate) activation_dir: PathBuf,
    pub(crate) device: Device,
}

/// What a run did and where its results lie.
#[derive(Clone, Debug, Serialize)]
pub struct RunResult {
    /// Layers of all stacks.
    pub num_layers: usize,
    /// Samples that went through.
    pub num_samples: usize,
    /// Tokens that went through.
    pub num_tokens: usize,
    /// Where the results lie.
    pub output_dir: PathBuf,
    /// Was the same run found finished, so that nothing was left to do?
    pub already_finished: bool,
    /// Did it go on with an interrupted run?
    pub resumed: bool,
    /// A line per sample, in the order of the dataset.
    pub samples: Vec<SampleLine>,
    /// run.json.
    pub report: RunReport,
}

/// Settings of an integrator; see [`UniversalSliIntegrator::builder`].
#[derive(Clone, Debug)]
pub struct IntegratorBuilder {
    model: String,
    output_dir: PathBuf,
    activation_dir: Option<PathBuf>,
    device: Device,
    hub: HubOptions,
    registry: ArchitectureRegistry,
}

impl UniversalSliIntegrator {
    /// Starts with a directory that holds config.json and weights, or a hub id `owner/name[@revision]`.
    pub fn builder(model: impl Into<String>) -> IntegratorBuilder {
        IntegratorBuilder {
            model: model.into(),
            output_dir: "profiles/sli_profile".into(),
            activation_dir: None,
            device: Device::default(),
            hub: HubOptions::default(),
            registry: ArchitectureRegistry::new(),
        }
    }

    /// Runs a dataset through the model. Goes on with an interrupted run of the same in the output directory; a
    /// finished one is not run again.
    ///
    /// # Errors
    /// Everything in [`SliError`]; what can be known before the first weight is read is reported before anything is
    /// written.
    pub fn run_sli(&self, dataset: &Dataset, options: &RunOptions) -> Result<RunResult> {
        Run::new(self, options)?.run(dataset)
    }

    /// What a run of a dataset would read, write, hold in memory, and how long it would take. Runs nothing.
    ///
    /// # Errors
    /// As [`Self::run_sli`] before the first weight is read.
    pub fn plan(&self, dataset: &Dataset, options: &RunOptions, measuring: Measuring) -> Result<RunPlan> {
        let run = Run::new(self, options)?;
        let start = Instant::now();
        let samples = run.samples(dataset)?;
        run.foresee(&samples, measuring, start.elapsed())
    }

    /// The same for a number of tokens in samples of a length each, of which there is no dataset yet. An
    /// encoder-decoder reads as many in each of its stacks.
    ///
    /// # Errors
    /// As [`Self::plan`]; `Usage` for samples longer than the model takes.
    pub fn plan_tokens(
        &self,
        tokens: usize,
        length: usize,
        options: &RunOptions,
        measuring: Measuring,
    ) -> Result<RunPlan> {
        let ModelSummary { vocab_size, max_length, .. } = self.model.summary;
        if let Some(limit) = max_length.filter(|limit| length > *limit) {
            return Err(SliError::Usage(format!("samples of {length} tokens: the model takes {limit}")));
        }
        let decodes = self.model.spec.is_encoder_decoder();
        let samples = Samples::uniform(tokens, length, vocab_size, decodes);
        Run::new(self, options)?.foresee(&samples, measuring, Duration::ZERO)
    }

    /// What can be said of the model without reading its weights.
    pub fn model_summary(&self) -> &ModelSummary {
        &self.model.summary
    }

    /// The mathematics of the model.
    pub fn spec(&self) -> &ModelSpec {
        &self.model.spec
    }

    /// The spec of a layer, counted over all stacks.
    pub fn layer(&self, index: usize) -> Option<&BlockSpec> {
        self.model.spec.stacks.iter().flat_map(|stack| &stack.layers).nth(index)
    }

    /// The weights of a layer, counted over all stacks, and where they lie in the checkpoint. Of experts, those of
    /// the first.
    pub fn layer_weights(&self, index: usize) -> Vec<LayerWeight> {
        LayerWeight::of_layer(&self.model, index)
    }

    /// Keys of config.json that the architecture does not know.
    pub fn unread_config_keys(&self) -> &[String] {
        &self.model.unread_keys
    }

    /// The checkpoint and its downloaded shards.
    pub fn weight_loader(&self) -> &UniversalWeightLoader {
        &self.loader
    }

    /// Where results go.
    pub fn output_dir(&self) -> &Path {
        &self.output_dir
    }

    /// Forgets an unfinished run, with the activations it left on disk.
    ///
    /// # Errors
    /// When another process is running there, or files cannot be removed.
    pub fn clear_cache(&self) -> Result<()> {
        sli_cache::RunJournal::fresh(&self.activation_dir)
    }
}

impl IntegratorBuilder {
    /// Where results go; `profiles/sli_profile` unless it is set.
    pub fn output_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.output_dir = dir.into();
        self
    }

    /// Where activations wait when they do not fit into memory; a fast disk. `OUTPUT/.activations` unless it is set.
    pub fn activation_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.activation_dir = Some(dir.into());
        self
    }

    /// Where the arithmetic happens.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// How models named by hub id are found.
    pub fn hub(mut self, hub: HubOptions) -> Self {
        self.hub = hub;
        self
    }

    /// Adds an architecture of one's own.
    pub fn register(mut self, architecture: Architecture) -> Self {
        self.registry.register(architecture);
        self
    }

    /// Opens the model: understands its config, finds its weights and checks their shapes.
    ///
    /// # Errors
    /// An unknown architecture, a config or checkpoint that cannot be used, a device that is not there.
    pub fn build(self) -> Result<UniversalSliIntegrator> {
        check_device(self.device)?;
        let loader = UniversalWeightLoader::open(&self.model, &self.hub)?;
        let model = OpenModel::open(&self.model, &self.registry, &loader)?;
        let activation_dir = match &self.activation_dir {
            None => self.output_dir.join(".activations"),
            // Runs may share a fast disk: each has a directory of its own there.
            Some(dir) => dir.join(directory_name(&self.output_dir)),
        };
        Ok(UniversalSliIntegrator {
            model,
            loader,
            output_dir: self.output_dir,
            activation_dir,
            device: self.device,
        })
    }
}

/// A name that belongs to an output directory.
fn directory_name(output_dir: &Path) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    std::path::absolute(output_dir).unwrap_or_else(|_| output_dir.into()).hash(&mut hasher);
    format!("sli-{:016x}", hasher.finish())
}

fn check_device(device: Device) -> Result<()> {
    match device {
        Device::Cpu | Device::NdArray => Ok(()),
        #[cfg(feature = "cuda")]
        Device::Cuda(number) => {
            let count = sli_layers::cuda_devices()?;
            let message = format!("there are {count} CUDA devices, numbered from 0");
            if number < count {
                Ok(())
            } else {
                Err(SliError::Device { device: device.to_string(), message })
            }
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(SliError::Device {
            device: device.to_string(),
            message: "this program was built without CUDA: build it with `--features cuda`".into(),
        }),
    }
}
