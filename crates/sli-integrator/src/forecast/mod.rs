//! How long a run will take, and what bounds it.
//!
//! The reader, the compute thread and the writer work side by side, so a run takes as long as the slowest of them, plus
//! what cannot overlap: the first layer has to be there before anything is computed, and reading ahead ends where the
//! memory for it does.

mod machine;
mod measure;
mod rates;
mod work;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::rates::Products;
use crate::plan::MemoryPlan;

pub use machine::{MachineRates, Measuring};
pub use rates::ComputeRates;
pub use work::Work;
pub(crate) use work::{StageWork, WorkCounter};

/// What a run waits for most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Reading weights.
    Disk,
    /// Computing.
    Compute,
    /// Activations and outputs on their way to and from the disk.
    Spill,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Disk => "disk",
            Self::Compute => "compute",
            Self::Spill => "spill",
        })
    }
}

/// A run's work, and the time that it takes on a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// All that is to be done.
    pub work: Work,
    /// The rates that the times are made from.
    pub machine: MachineRates,
    /// Seconds that passed before: the records were read and tokenized, and what was not known of the machine measured.
    pub prepare_seconds: f64,
    /// Seconds of reading weights, without a pause.
    pub disk_seconds: f64,
    /// Seconds of computing, without a pause.
    pub compute_seconds: f64,
    /// Seconds of moving activations and outputs, without a pause.
    pub spill_seconds: f64,
    /// What takes longest.
    pub bound: Bound,
    /// Seconds that the run is expected to take.
    pub seconds: f64,
    /// Seconds that no program can go below here: each weight byte read once, or each operation of a product with
    /// weights done once at the best rate of the processor.
    pub limit_seconds: f64,
}

/// What a run will do.
#[derive(Clone, Debug, Serialize)]
pub struct RunPlan {
    /// Samples that go through.
    pub samples: usize,
    /// Tokens that go through, of all stacks.
    pub tokens: usize,
    /// How it uses memory.
    pub memory: MemoryPlan,
    /// How long it takes; `None` when this machine was not measured.
    pub forecast: Option<Forecast>,
}

/// How fast a run was, against what was foreseen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// What was foreseen.
    pub forecast: Forecast,
    /// The share of [`Forecast::limit_seconds`] in the seconds that the run took.
    pub share_of_limit: f64,
}

impl Speed {
    /// Compares a forecast with the seconds that the run took.
    pub(crate) fn new(forecast: Option<Forecast>, seconds: f64) -> Option<Self> {
        forecast.map(|forecast| Self { share_of_limit: forecast.limit_seconds / seconds, forecast })
    }
}

/// Opening the outputs, the first commit and the last, each file made durable.
const FIXED_SECONDS: f64 = 0.04;

impl Forecast {
    /// The time for the work of each stage, in order, in chunks of about so many tokens, after `prepared`.
    pub(crate) fn new(
        stages: &[StageWork],
        chunk_tokens: usize,
        plan: &MemoryPlan,
        machine: MachineRates,
        prepared: Duration,
    ) -> Self {
        let mut work = Work::default();
        stages.iter().for_each(|stage| work += stage.work);
        let times: Vec<StageTimes> =
            stages.iter().map(|stage| StageTimes::new(stage, chunk_tokens, &machine)).collect();
        let sum = |time: fn(&StageTimes) -> f64| times.iter().map(time).sum::<f64>();
        let (disk_seconds, compute_seconds) = (sum(|t| t.read), sum(|t| t.compute));
        let spill_seconds = sum(|t| t.move_rows);
        let bound = if spill_seconds > disk_seconds.max(compute_seconds) {
            Bound::Spill
        } else if disk_seconds > compute_seconds {
            Bound::Disk
        } else {
            Bound::Compute
        };
        let limit =
            (work.weight_bytes as f64 / machine.disk).max(work.flops() as f64 / machine.compute.peak());
        Self {
            seconds: prepared.as_secs_f64()
                + pipelined(&times, plan.largest_group + plan.read_ahead)
                + FIXED_SECONDS,
            prepare_seconds: prepared.as_secs_f64(),
            limit_seconds: limit,
            work,
            machine,
            disk_seconds,
            compute_seconds,
            spill_seconds,
            bound,
        }
    }
}

/// Seconds that each part of a stage takes by itself.
#[derive(Clone, Copy, Debug)]
struct StageTimes {
    held: u64,
    read: f64,
    compute: f64,
    move_rows: f64,
}

impl StageTimes {
    fn new(stage: &StageWork, chunk_tokens: usize, machine: &MachineRates) -> Self {
        let StageWork { work, expert_rows, sample_tokens, held_bytes, dense_coded, experts_coded } = stage;
        let compute = &machine.compute;
        let products = |flops: u64, floats: u64| Products { flops: flops as f64, floats: floats as f64 };
        let dense = products(work.dense_flops, work.dense_floats);
        let experts = products(work.expert_flops, work.expert_floats);
        Self {
            held: *held_bytes,
            read: work.weight_bytes as f64 / machine.disk,
            compute: compute.product_seconds(dense, chunk_tokens, *dense_coded)
                + compute.product_seconds(experts, *expert_rows, *experts_coded)
                + work.attention_flops as f64 / compute.attention(*sample_tokens)
                + work.touched_floats as f64 / compute.touched_floats
                + work.activated_values as f64 / compute.activated_values,
            move_rows: (work.spill_bytes + work.output_bytes) as f64 / machine.disk,
        }
    }
}

/// The end of the last stage, when weights are read while others compute, as far as `memory` for them reaches, and rows
/// are moved on the same disk.
fn pipelined(stages: &[StageTimes], memory: u64) -> f64 {
    let mut ends = vec![0.0f64; stages.len() + 1]; // ends[i + 1]: stage i has computed
    let mut disk = 0.0f64;
    let (mut oldest, mut held) = (0, 0); // the first stage whose weights are still held, and all that is
    for (index, stage) in stages.iter().enumerate() {
        while oldest < index && held + stage.held > memory {
            held -= stages[oldest].held;
            oldest += 1;
        }
        held += stage.held;
        disk = disk.max(ends[oldest]) + stage.read;
        let start = disk.max(ends[index]);
        ends[index + 1] = start + stage.compute;
        disk += stage.move_rows;
        ends[index + 1] = ends[index + 1].max(if stage.move_rows > stage.compute { disk } else { 0.0 });
    }
    ends[stages.len()].max(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(count: usize, read: f64, compute: f64) -> Vec<StageTimes> {
        vec![StageTimes { held: 1, read, compute, move_rows: 0.0 }; count]
    }

    #[test]
    fn reading_and_computing_overlap_when_there_is_memory_for_it() {
        // Nothing overlaps without memory; otherwise only the first read or the last computation stands alone.
        assert_eq!(pipelined(&stages(10, 2.0, 1.0), 1), 30.0);
        assert_eq!(pipelined(&stages(10, 2.0, 1.0), 2), 21.0);
        assert_eq!(pipelined(&stages(10, 1.0, 2.0), 2), 21.0);
        assert_eq!(pipelined(&stages(10, 1.0, 2.0), 4), 21.0);
    }

    #[test]
    fn weights_that_are_decoded_take_the_time_of_decoding() {
        let compute = ComputeRates {
            products: vec![(1, 100.0)],
            coded_products: vec![(1, 50.0)],
            narrow_products: 100.0,
            attention: vec![(1, 1.0)],
            touched_floats: 1.0,
            activated_values: 1.0,
        };
        let machine = MachineRates { disk: 1.0, compute };
        let seconds = |dense_coded, experts_coded| {
            let work = Work { dense_flops: 100, expert_flops: 200, ..Work::default() };
            let stage =
                StageWork { work, expert_rows: 1, dense_coded, experts_coded, ..StageWork::default() };
            StageTimes::new(&stage, 1, &machine).compute
        };
        assert_eq!([seconds(false, false), seconds(true, false), seconds(false, true)], [3.0, 4.0, 5.0]);
    }

    #[test]
    fn functions_between_products_take_their_time() {
        let compute = ComputeRates {
            products: vec![(1, 1.0)],
            coded_products: vec![(1, 1.0)],
            narrow_products: 1.0,
            attention: vec![(1, 1.0)],
            touched_floats: 10.0,
            activated_values: 4.0,
        };
        let work = Work { activated_values: 12, touched_floats: 10, ..Work::default() };
        let stage = StageWork { work, expert_rows: 1, ..StageWork::default() };
        assert_eq!(StageTimes::new(&stage, 1, &MachineRates { disk: 1.0, compute }).compute, 4.0);
    }

    #[test]
    fn uneven_stages_need_more_ahead() {
        let mut uneven = stages(2, 1.0, 4.0);
        uneven.extend(stages(4, 3.0, 1.0));
        assert!(pipelined(&uneven, 5) < pipelined(&uneven, 2));
        assert_eq!(pipelined(&uneven, 1), uneven.iter().map(|s| s.read + s.compute).sum::<f64>());
    }

    #[test]
    fn moving_rows_takes_the_disk_from_the_weights() {
        let moving = vec![StageTimes { held: 1, read: 1.0, compute: 0.5, move_rows: 2.0 }; 10];
        assert!(pipelined(&moving, 3) >= 30.0);
    }

    #[test]
    fn halves_of_layers_overlap_in_the_memory_of_a_layer() {
        let part = |held, read, compute| StageTimes { held, read, compute, move_rows: 0.0 };
        let layers: Vec<_> = (0..20).map(|i| [part(1, 1.0, 4.0), part(2, 2.0, 8.0)][i % 2]).collect();
        assert_eq!(pipelined(&layers, 3), 1.0 + 120.0, "reading hides behind the other half");
        let layers: Vec<_> = (0..20).map(|i| [part(1, 1.0, 1.0), part(2, 2.0, 2.0)][i % 2]).collect();
        assert!(pipelined(&layers, 3) > pipelined(&layers, 5), "here it needs room for more");
    }
}
