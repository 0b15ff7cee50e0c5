//! What a run tells while it works.

use std::fmt::Debug;

use crate::forecast::RunPlan;

/// Follows a run, from its compute threads. All methods default to nothing; `()` is an observer that does not look.
pub trait Observer: Debug + Send + Sync {
    /// The run is planned and will begin.
    fn planned(&self, _plan: &RunPlan) {}

    /// A stage begins: `index` of `total`, with as many `chunks` of which `done` were done before (a resumed run).
    fn stage_started(&self, _stage: &StageInfo) {}

    /// A chunk of the stage is done.
    fn chunk_done(&self, _tokens: usize) {}

    /// Weight bytes were read.
    fn bytes_read(&self, _bytes: u64) {}

    /// The stage is done.
    fn stage_finished(&self) {}
}

impl Observer for () {}

/// A stage, for people.
#[derive(Clone, Debug)]
pub struct StageInfo {
    /// Which stage, counted from zero.
    pub index: usize,
    /// How many there are.
    pub total: usize,
    /// As in `layer 3 of 32`.
    pub name: String,
    /// Tokens that go through it.
    pub tokens: usize,
    /// Tokens of chunks done in an earlier process.
    pub tokens_done: usize,
}
