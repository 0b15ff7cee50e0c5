//! What a run leaves in its output directory.

mod directory;
mod hidden;
mod logits;
mod report;
mod rows;
mod stats;

pub(crate) use directory::{output_bytes, remove_outputs};
pub(crate) use hidden::HiddenOutput;
pub(crate) use logits::{LogitsOutput, ScoresOutput};
pub use report::{ExpertReads, LayerProfile, RouterProfile, RunReport, SampleLine};
pub(crate) use report::{finished_run, read_samples, write_profile, write_run, write_samples};
pub use stats::Distribution;
pub(crate) use stats::write_stats;
