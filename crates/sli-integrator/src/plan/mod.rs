//! How a run uses memory: chunk size, reading ahead, where activations wait.

mod left_over;

use serde::Serialize;
use sli_core::{BlockSpec, ByteSize, LayerPart, ModelSpec, Result, SliError};

use crate::chunk_memory::{
    PACKED_TOKENS, distance_floats, layers_top_k, packed_floats, pending_floats, scratch_floats,
};
use crate::chunks::{Chunks, sample_length};
use crate::dataset::Samples;
use crate::forecast::MachineRates;
use crate::options::{Placement, RunOptions};
use crate::weight_sizes::WeightSizes;

/// The decisions, and what they cost.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryPlan {
    /// The ceiling.
    pub memory: ByteSize,
    /// Most tokens in a chunk.
    pub chunk_tokens: usize,
    /// Chunks that go through a layer side by side, each computed by a thread.
    pub chunks_abreast: usize,
    /// Do activations wait on disk?
    pub spilled: bool,
    /// Do large layers run in two parts, so that only one of them has to be in memory?
    pub in_parts: bool,
    /// The most weights that a layer, or a part of one, holds, in bytes; experts apart.
    pub largest_group: u64,
    /// Most bytes of weights read before they are wanted.
    pub read_ahead: u64,
    /// Experts that are held together, each worked on by a thread.
    pub experts_together: usize,
    /// Most bytes of experts held: those at work, and as many that are read ahead.
    pub experts_held: u64,
    /// Tokens that go through the experts of a layer together.
    pub wave_tokens: usize,
    /// Is the table of embeddings in memory as a whole while its rows are taken?
    pub embedding_resident: bool,
    /// Rows of a tile of the vocabulary matrix.
    pub head_tile_rows: usize,
    /// Tokens that go through the tiles together when the matrix does not stay in memory.
    pub head_wave_tokens: usize,
    /// Does the whole vocabulary matrix stay in memory while the head runs?
    pub head_resident: bool,
    /// What is held at the same time, in bytes.
    pub parts: Vec<PlanPart>,
}

/// A use of memory.
#[derive(Clone, Debug, Serialize)]
pub struct PlanPart {
    /// What for.
    pub name: &'static str,
    /// How much.
    pub bytes: u64,
}

/// The part of memory that layers and the head take in turns.
const LAYER_PART: &str = "weights read and read ahead, and what chunks compute";
/// Kept free for thread stacks, small buffers, and what the allocator does not give back.
const MARGIN: u64 = 24 << 20;
/// Most tokens of a chunk, best first. Products of so many rows run at full speed, those of a quarter at about nine
/// tenths of it; below that each halving costs more.
const LARGE_CHUNKS: [usize; 6] = [1024, 768, 512, 384, 320, 256];
/// Where each expert sees only its share of the rows.
const CHUNKS_FOR_EXPERTS: [usize; 2] = [4096, 2048];
/// Where activations on disk do not make room for larger ones.
const SMALL_CHUNKS: [usize; 6] = [192, 160, 128, 96, 64, 32];
/// Products of fewer rows take longer than reading ahead saves. The last is the least that works.
const CHUNKS_WITHOUT_READ_AHEAD: [usize; 13] = [1024, 512, 384, 256, 192, 128, 96, 64, 32, 16, 8, 4, 1];
/// One layer is read ahead, and more of small ones: up to this many bytes. Deeper queues hide nothing more, and memory
/// that was not used before has to be found and cleared by the system, which takes longer than reading into it.
const READ_AHEAD: u64 = 128 << 20;
/// A part of a layer that waits for its weights may make the layer so much longer.
const HARDLY_LONGER: f64 = 1.1;
/// Most stages that are read ahead.
const STAGES_AHEAD: usize = 4;
/// As many experts as there are threads are worked on side by side, as long as they have together at most this many bytes.
const EXPERTS_TOGETHER: u64 = 64 << 20;
/// Tiles of the head are about this large, and so are their logits.
const HEAD_TILE: u64 = 16 << 20;

/// What the plan is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) spec: &'a ModelSpec,
    pub(crate) samples: &'a Samples,
    pub(crate) options: &'a RunOptions,
    pub(crate) sizes: &'a WeightSizes,
    /// What this machine can do, where it is known.
    pub(crate) machine: Option<&'a MachineRates>,
    /// Chunks that the device can compute side by side.
    pub(crate) most_abreast: usize,
    /// Resident bytes of the process before the run.
    pub(crate) resident: u64,
    /// The ceiling.
    pub(crate) memory: ByteSize,
    /// The chunk size of an unfinished run, and whether its activations are on disk: these have to stay.
    pub(crate) decided: Option<(usize, bool)>,
}

impl Situation<'_> {
    /// Chooses the best of what fits.
    ///
    /// # Errors
    /// `Memory`, with the least that works.
    pub(crate) fn plan(&self) -> Result<MemoryPlan> {
        let placements: &[bool] = match (self.decided, self.options.activations) {
            (Some((_, false)), _) | (None, Placement::Memory) => &[false],
            (Some((_, true)), _) | (None, Placement::Disk) => &[true],
            (None, Placement::Auto) => &[false, true],
        };
        let layer = self.stages_of_a_layer();
        let deep =
            (layer..=STAGES_AHEAD.max(layer)).take_while(|ahead| self.read_ahead(*ahead) <= READ_AHEAD);
        let deep = deep.last().unwrap_or(layer);
        let has_experts = layers_top_k(self.spec) > 0;
        // Where a part of a layer is read while the other one computes, or while its experts are read and compute, more
        // would only take memory.
        let aheads: &[usize] =
            if has_experts || self.reads_behind_the_other_part() { &[1] } else { &[deep, layer] };
        let mut large = LARGE_CHUNKS.to_vec();
        if has_experts {
            large.splice(..0, CHUNKS_FOR_EXPERTS);
        }
        let tried: [(&[usize], &[usize]); 4] = [
            (&large, aheads),
            (&large, &[1]),
            (&SMALL_CHUNKS, &[layer, 1]),
            (&CHUNKS_WITHOUT_READ_AHEAD, &[0]),
        ];
        for (sizes, aheads) in tried {
            for spilled in placements {
                let plans = sizes.iter().flat_map(|chunk_tokens| {
                    aheads.iter().map(|ahead| self.with(*chunk_tokens, *ahead, *spilled))
                });
                if let Some(plan) = plans.into_iter().find(|plan| plan.peak() <= self.memory.bytes()) {
                    return Ok(self.use_what_is_left(plan));
                }
            }
        }
        let least = placements.iter().map(|spilled| self.with(1, 0, *spilled)).min_by_key(MemoryPlan::peak);
        match least {
            Some(least) => Err(SliError::Memory {
                limit: self.memory,
                // The allowance for fragmentation grows with the ceiling: leave room for that.
                needed: rounded_up(least.peak() + (least.peak() >> 4)),
                detail: least.largest_parts(),
            }),
            None => Err(SliError::Usage("no place for activations is allowed".into())),
        }
    }

    /// Tokens of all stacks.
    fn num_tokens(&self) -> usize {
        let decoder = self.samples.decoder_input.as_ref();
        self.samples.input.num_tokens() + decoder.map_or(0, |decoder| decoder.num_tokens())
    }

    /// How many stages a layer is.
    fn stages_of_a_layer(&self) -> usize {
        if self.sizes.in_parts && layers_top_k(self.spec) == 0 { 2 } else { 1 }
    }

    /// Bytes that are held besides those of the stage at work when so many stages are read ahead.
    fn read_ahead(&self, stages: usize) -> u64 {
        self.sizes.with_ahead(stages) - self.sizes.largest_stage()
    }

    /// Does a layer take hardly longer when each of its parts is only read while the other one computes, than when reading
    /// never waits for computing? Then memory for more is better left alone: the system takes time to find and clear it.
    fn reads_behind_the_other_part(&self) -> bool {
        let Some(machine) = self.machine.filter(|_| self.stages_of_a_layer() == 2) else { return false };
        let tokens = self.samples.input.num_tokens() as f64;
        // Of a bf16 weight: two operations for each token, two bytes. Narrower ones are read faster still.
        let (compute, read) = (2.0 * tokens / machine.compute.peak(), 2.0 / machine.disk);
        let layer = self.sizes.with_ahead(1) as f64;
        let larger = self.sizes.largest_stage() as f64 / layer;
        let smaller = 1.0 - larger;
        let one_ahead = (smaller * compute).max(larger * read) + (larger * compute).max(smaller * read);
        one_ahead <= HARDLY_LONGER * compute.max(read)
    }

    /// The plan for about this many tokens per chunk (at least the longest sample) and this many stages read ahead.
    fn with(&self, chunk_tokens: usize, ahead: usize, spilled: bool) -> MemoryPlan {
        let Self { spec, samples, options, sizes, .. } = *self;
        let longest = (0..samples.len()).map(|sample| sample_length(samples, sample)).max().unwrap_or(0);
        let target = self.decided.map_or(chunk_tokens.max(longest), |(chunk_tokens, _)| chunk_tokens);
        let chunk = Chunks::new(samples, target, options.batch_size).largest(samples) as u64;
        let asked = options.prefetch.map(|layers| layers.min(spec.num_layers()) * self.stages_of_a_layer());
        let read_ahead = self.read_ahead(asked.unwrap_or(ahead));

        let (hidden, carried) = (self.hidden(), self.carried());
        let tokens = self.num_tokens();
        let threads = rayon::current_num_threads() as u64;
        let together = (EXPERTS_TOGETHER / sizes.largest_expert.max(1)).clamp(1, threads);
        let experts_held = 2 * together * sizes.largest_expert;
        let top_k = layers_top_k(spec);
        let wave = if top_k > 0 { chunk } else { 0 };

        let vocab = spec.head.as_ref().map_or(0, |head| head.vocab_size as u64);
        let tile_rows =
            (HEAD_TILE / sizes.head_row.max(1)).min(HEAD_TILE / (4 * chunk).max(1)).clamp(16, vocab.max(16));
        // An expert that is waited for is read even when nothing is left for it.
        let experts = experts_held + sizes.largest_expert;
        let layer_time = sizes.largest_stage() + read_ahead + experts + self.chunk_bytes(chunk);
        let head_time = tile_rows * (3 * sizes.head_row + 4 * chunk) + 4 * 4 * hidden * chunk;

        let kept = if spilled { 3 * chunk } else { tokens as u64 + chunk } * (hidden + carried) * 4;
        let part = |name, bytes| PlanPart { name, bytes };
        let parts = vec![
            part("program, tokenizer and dataset", self.resident + MARGIN + self.memory.bytes() / 32),
            part(LAYER_PART, layer_time.max(head_time) + sizes.pinned),
            part(if spilled { "activations on their way to disk" } else { "activations" }, kept),
            part("chunks that wait for experts", wave * pending_floats(hidden, top_k) * 4),
            part("outputs on their way to disk", 4 * chunk * hidden * 4),
        ];
        MemoryPlan {
            memory: self.memory,
            chunk_tokens: target,
            chunks_abreast: 1,
            spilled,
            in_parts: sizes.in_parts,
            largest_group: sizes.largest_stage(),
            read_ahead,
            experts_together: together as usize,
            experts_held,
            wave_tokens: wave as usize,
            embedding_resident: false,
            head_tile_rows: tile_rows as usize,
            head_wave_tokens: chunk as usize,
            head_resident: false,
            parts,
        }
    }

    /// The widest residual stream.
    fn hidden(&self) -> u64 {
        self.spec.stacks.iter().map(|stack| stack.hidden_size as u64).max().unwrap_or(0)
    }

    /// What is carried beside it.
    fn carried(&self) -> u64 {
        self.spec.stacks.iter().map(|stack| stack.carried_width() as u64).max().unwrap_or(0)
    }

    /// Bytes that a chunk of so many tokens takes while a layer computes.
    fn chunk_bytes(&self, tokens: u64) -> u64 {
        let layers = || self.spec.stacks.iter().flat_map(|stack| &stack.layers);
        let hidden = self.hidden();
        // What is carried is read, changed and written once more while a layer runs.
        let scratch =
            layers().map(|block| self.scratch_floats(block, hidden)).max().unwrap_or(0) + 2 * self.carried();
        let packed = layers().map(|block| packed_floats(block, hidden)).max().unwrap_or(0);
        let packed = tokens.min(PACKED_TOKENS) * packed + layers().map(distance_floats).max().unwrap_or(0);
        (scratch * tokens + packed) * 4
    }

    /// f32 values that a token takes while a layer computes.
    fn scratch_floats(&self, block: &BlockSpec, hidden: u64) -> u64 {
        let parts = match self.sizes.in_parts && block.has_two_parts() {
            true => &[LayerPart::Mixers, LayerPart::FeedForward][..],
            false => &[LayerPart::Whole],
        };
        let inputs = self.spec.linear_inputs;
        parts.iter().map(|part| scratch_floats(block, *part, inputs, hidden)).max().unwrap_or(0)
    }
}

impl MemoryPlan {
    /// Bytes held at the same time.
    pub fn peak(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    fn largest_parts(&self) -> String {
        let mut parts: Vec<_> = self.parts.iter().filter(|part| part.bytes > 0).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        let phrases = parts.iter().take(3).map(|part| format!("{} {}", part.name, ByteSize(part.bytes)));
        phrases.collect::<Vec<_>>().join(", ")
    }
}

/// The next size that printing does not make smaller: whole MiB, or tenths of a GiB.
fn rounded_up(bytes: u64) -> ByteSize {
    ByteSize(bytes.next_multiple_of(if bytes <= 1023 << 20 { 1 << 20 } else { (1u64 << 30).div_ceil(10) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Sample;
    use crate::forecast::ComputeRates;

    /// A Llama of 6.7 billion parameters, whose layers take 128 and 258 MiB, and 32 samples of 32 tokens.
    fn plan(memory: &str, machine: Option<&MachineRates>) -> Result<MemoryPlan> {
        plan_for(32, memory, machine)
    }

    /// The same with so many samples.
    pub(super) fn plan_for(count: usize, memory: &str, machine: Option<&MachineRates>) -> Result<MemoryPlan> {
        let config = r#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 4096,
            "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}"#;
        let stages = [128 << 20, 258 << 20].repeat(32);
        let (embedding, embedding_rows) = (750 << 20, 32000);
        let sizes = &WeightSizes {
            in_parts: true,
            stages,
            embedding,
            embedding_rows,
            head_row: 8192,
            ..WeightSizes::default()
        };
        plan_of(config, &samples(count), sizes, memory.parse()?, machine, 1)
    }

    /// So many of 32 tokens.
    pub(super) fn samples(count: usize) -> Samples {
        let mut samples = Samples::default();
        for _ in 0..count {
            samples.input.push(&[0; 32]);
            samples.samples.push(Sample { id: None, truncated: false, scored_from: 1 });
        }
        samples
    }

    pub(super) fn plan_of(
        config: &str,
        samples: &Samples,
        sizes: &WeightSizes,
        memory: ByteSize,
        machine: Option<&MachineRates>,
        most_abreast: usize,
    ) -> Result<MemoryPlan> {
        let config = sli_registry::HfConfig::parse(config, "config.json")?;
        let spec = &sli_registry::ArchitectureRegistry::new().resolve(&config)?.spec;
        let (options, resident, decided) = (&RunOptions::default(), 8 << 20, None);
        Situation { spec, samples, options, sizes, machine, most_abreast, resident, memory, decided }.plan()
    }

    #[test]
    fn less_memory_makes_smaller_chunks_by_degrees() {
        let of =
            |memory: &str| plan(memory, None).map(|plan| (plan.chunk_tokens, plan.read_ahead >> 20)).unwrap();
        assert_eq!(of("8GiB"), (1024, 386), "a whole layer is read ahead");
        let mut last = (1024, 386);
        for mebibytes in (464..1400).step_by(8).rev() {
            let (chunk, ahead) = of(&format!("{mebibytes}MiB"));
            let less_read_ahead = ahead == 128 && last.1 == 386;
            assert!(
                (chunk <= last.0 || less_read_ahead) && chunk * 2 >= last.0,
                "{last:?}, then {chunk} and {ahead} in {mebibytes} MiB"
            );
            assert!(chunk >= 256 || ahead == 128, "chunks shrink last");
            last = (chunk, ahead);
        }
        assert_eq!(last, (32, 128));
        assert_eq!(of("400MiB"), (192, 0), "products of few rows take longer than reading beside them saves");
        assert!(matches!(plan("300MiB", None), Err(SliError::Memory { .. })));
    }

    #[test]
    fn a_machine_that_computes_long_enough_reads_one_part_ahead() {
        let products = vec![(1, 1e9), (512, 1e11)];
        let coded_products = products.clone();
        let compute = ComputeRates {
            products,
            coded_products,
            narrow_products: 1e11,
            attention: vec![(8, 1e11)],
            touched_floats: 1e9,
            activated_values: 1e9,
        };
        let ahead = |disk| {
            let machine = MachineRates { disk, compute: compute.clone() };
            plan("8GiB", Some(&machine)).map(|plan| plan.read_ahead >> 20).unwrap()
        };
        // 1024 tokens take 20 ns for each weight, so reading at 0.1 GB/s takes as long. The parts are a third and two thirds:
        // at 0.17 GB/s the larger one is read in 7.8 ns while the smaller one computes for 6.6, at 0.14 GB/s in 9.5.
        assert_eq!([1e9, 1.7e8, 1.4e8, 1e8, 1e7].map(ahead), [128, 128, 386, 386, 128]);
    }

    #[test]
    fn the_least_that_works_is_not_less_when_it_is_printed() {
        for bytes in [1, 38_000_001, (1023 << 20) + 1, (1 << 30) + 1, 1_233_700_000, 99_900_000_001] {
            let rounded = rounded_up(bytes);
            let read: ByteSize = rounded.to_string().parse().unwrap();
            // Printing cuts fractions of a byte in a tenth of a GiB, far less than the allowance that is included.
            assert!(read.bytes() + 1024 >= bytes, "{bytes}: {rounded}");
        }
    }
}
