//! Sequential Layer Ingestion as a library: a whole dataset is pushed through a model one layer at a time.
//!
//! Layer i is read from storage once, every sample goes through it, what comes out waits in memory or on disk, and
//! layer i + 1 is already being read. Memory is bounded by the user's number and not by the model.
//!
//! ```no_run
//! use sli_integrator::{Dataset, RunOptions, UniversalSliIntegrator};
//!
//! let sli = UniversalSliIntegrator::builder("models/mistral-7b").output_dir("profiles/first").build()?;
//! let result = sli.run_sli(&Dataset::from_texts(["Sample text for processing"]), &RunOptions::default())?;
//! println!("Processed {} layers", result.num_layers);
//! if let Some(moe) = &sli.model_summary().moe {
//!     println!("Experts: {}", moe.num_experts);
//! }
//! # Ok::<(), sli_core::SliError>(())
//! ```

mod chunk_memory;
mod chunks;
mod dataset;
mod forecast;
mod integrator;
mod job;
mod layer_weights;
mod model;
mod options;
mod output;
mod pipeline;
mod plan;
mod progress;
mod run;
mod system_memory;
mod weight_sizes;

pub use dataset::{Dataset, Input, Record, Target};
pub use forecast::{Bound, ComputeRates, Forecast, MachineRates, Measuring, RunPlan, Speed, Work};
pub use integrator::{IntegratorBuilder, RunResult, UniversalSliIntegrator};
pub use layer_weights::LayerWeight;
pub use model::ModelSummary;
pub use options::{
    CancelToken, ComputeDtype, Device, HiddenDtype, HiddenStates, Logits, Placement, Pooling, RunOptions,
};
pub use output::{Distribution, ExpertReads, LayerProfile, RouterProfile, RunReport, SampleLine};
pub use plan::{MemoryPlan, PlanPart};
pub use progress::{Observer, StageInfo};
pub use sli_core::SliError;
pub use sli_weights::HubOptions;
pub use system_memory::default_memory;
