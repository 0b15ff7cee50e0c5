//! How a run uses memory: chunk size, reading ahead, where activations wait.

use serde::Serialize;
use sli_core::{BlockSpec, ByteSize, Ffn, Mixer, ModelSpec, Residual, Result, SliError};

use crate::chunks::{Chunks, sample_length};
use crate::dataset::Samples;
use crate::options::{Placement, RunOptions};

/// Sizes of a checkpoint's parts once they are in memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WeightSizes {
    /// The largest dense group of any layer, embedding or norm.
    pub(crate) largest_group: u64,
    /// The largest expert; zero without experts.
    pub(crate) largest_expert: u64,
    /// A row of the vocabulary matrix.
    pub(crate) head_row: u64,
    /// What is held from the first use to the end.
    pub(crate) pinned: u64,
}

/// The decisions, and what they cost.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryPlan {
    /// The ceiling.
    pub memory: ByteSize,
    /// Most tokens in a chunk.
    pub chunk_tokens: usize,
    /// Do activations wait on disk?
    pub spilled: bool,
    /// The largest group of weights, in bytes.
    pub largest_group: u64,
    /// Most bytes of weights read before they are wanted.
    pub read_ahead: u64,
    /// Most bytes of experts read before they are wanted.
    pub expert_read_ahead: u64,
    /// Tokens that go through the experts of a layer together.
    pub wave_tokens: usize,
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
/// One group is read ahead, and more of small ones: up to this many bytes. Deeper queues hide nothing more, and memory
/// that was not used before has to be found and cleared by the system, which takes longer than reading into it.
const READ_AHEAD: u64 = 256 << 20;
/// Most groups that are read ahead.
const GROUPS_AHEAD: u64 = 4;
/// Tiles of the head are about this large, and so are their logits.
const HEAD_TILE: u64 = 16 << 20;

/// What the plan is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) spec: &'a ModelSpec,
    pub(crate) samples: &'a Samples,
    pub(crate) options: &'a RunOptions,
    pub(crate) sizes: WeightSizes,
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
        let ahead = (READ_AHEAD / self.sizes.largest_group.max(1)).clamp(1, GROUPS_AHEAD);
        let mut large = LARGE_CHUNKS.to_vec();
        if layers_top_k(self.spec) > 0 {
            large.splice(..0, CHUNKS_FOR_EXPERTS);
        }
        let tried: [(&[usize], &[u64]); 3] =
            [(&large, &[ahead, 1]), (&SMALL_CHUNKS, &[1]), (&CHUNKS_WITHOUT_READ_AHEAD, &[0])];
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

    /// The plan for about this many tokens per chunk (at least the longest sample) and this many groups read ahead.
    fn with(&self, chunk_tokens: usize, ahead: u64, spilled: bool) -> MemoryPlan {
        let Self { spec, samples, options, sizes, .. } = *self;
        let longest = (0..samples.len()).map(|sample| sample_length(samples, sample)).max().unwrap_or(0);
        let target = self.decided.map_or(chunk_tokens.max(longest), |(chunk_tokens, _)| chunk_tokens);
        let chunk = Chunks::new(samples, target, options.batch_size).largest(samples) as u64;
        let ahead = options.prefetch.map_or(ahead, |layers| layers.min(spec.num_layers()) as u64);

        let hidden = spec.stacks.iter().map(|stack| stack.hidden_size as u64).max().unwrap_or(0);
        let tokens =
            samples.input.num_tokens() + samples.decoder_input.as_ref().map_or(0, |d| d.num_tokens());
        let layers = spec.stacks.iter().flat_map(|stack| &stack.layers);
        let carried = spec.stacks.iter().map(|stack| stack.carried_width() as u64).max().unwrap_or(0);
        // What is carried is read, changed and written once more while a layer runs.
        let scratch = layers.map(|block| scratch_floats(block, hidden)).max().unwrap_or(0) + 2 * carried;
        let top_k = layers_top_k(spec);
        let wave = if top_k > 0 { chunk } else { 0 };

        let vocab = spec.head.as_ref().map_or(0, |head| head.vocab_size as u64);
        let tile_rows =
            (HEAD_TILE / sizes.head_row.max(1)).min(HEAD_TILE / (4 * chunk).max(1)).clamp(16, vocab.max(16));
        let layer_time = (sizes.largest_group * (1 + ahead)) + 3 * sizes.largest_expert + scratch * chunk * 4;
        let head_time = tile_rows * (3 * sizes.head_row + 4 * chunk) + 4 * 4 * hidden * chunk;

        let kept = if spilled { 3 * chunk } else { tokens as u64 + chunk } * (hidden + carried) * 4;
        let part = |name, bytes| PlanPart { name, bytes };
        let parts = vec![
            part("program, tokenizer and dataset", self.resident + MARGIN + self.memory.bytes() / 32),
            part(
                "weights read and read ahead, and what a chunk computes",
                layer_time.max(head_time) + sizes.pinned,
            ),
            part(if spilled { "activations on their way to disk" } else { "activations" }, kept),
            part("chunks that wait for experts", wave * pending_floats(hidden, top_k) * 4),
            part("outputs on their way to disk", 4 * chunk * hidden * 4),
        ];
        MemoryPlan {
            memory: self.memory,
            chunk_tokens: target,
            spilled,
            largest_group: sizes.largest_group,
            read_ahead: sizes.largest_group * ahead,
            expert_read_ahead: 2 * sizes.largest_expert,
            wave_tokens: wave as usize,
            head_tile_rows: tile_rows as usize,
            head_wave_tokens: chunk as usize,
            head_resident: false,
            parts,
        }
    }

    /// Gives memory that is left over to larger waves and to the head.
    fn use_what_is_left(&self, mut plan: MemoryPlan) -> MemoryPlan {
        let left = self.memory.bytes() - plan.peak();
        let hidden = self.spec.stacks.iter().map(|stack| stack.hidden_size as u64).max().unwrap_or(0);
        let top_k = layers_top_k(self.spec);
        if top_k > 0 {
            plan.wave_tokens += (left / (pending_floats(hidden, top_k) * 4)) as usize;
        }
        let vocab = self.spec.head.as_ref().map_or(0, |head| head.vocab_size as u64);
        // While the head runs, no layer is in memory.
        let left = left + self.sizes.largest_group + plan.read_ahead;
        plan.head_resident = vocab * self.sizes.head_row <= left;
        plan.head_wave_tokens += (left / (8 * hidden).max(1)) as usize;
        plan
    }
}

impl MemoryPlan {
    /// Bytes held at the same time.
    pub fn peak(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Groups that may be read before they are wanted.
    pub(crate) fn groups_ahead(&self) -> usize {
        (self.read_ahead / self.largest_group.max(1)) as usize
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

/// f32 values that a token takes while a block computes: the residual stream with a branch's input and output, and
/// the widest of what is between.
pub(crate) fn scratch_floats(block: &BlockSpec, hidden: u64) -> u64 {
    let mixer = match &block.mixer {
        Mixer::Attention(a) => {
            let (q, v) = (a.num_heads * a.head_dim, a.num_heads * a.value_dim);
            2 * q + 2 * a.num_kv_heads * (a.head_dim + a.value_dim) + v
        }
        Mixer::AttentionExperts(e) => {
            let a = &e.attention;
            let (q, v) = (a.num_heads * a.head_dim, a.num_heads * a.value_dim);
            3 * q + 2 * a.num_kv_heads * (a.head_dim + a.value_dim) + 2 * v + 3 * e.num_experts
        }
        Mixer::Mla(m) => {
            // Queries, keys (their own part and whole), values and what is mixed, besides the narrow latents.
            let latents = m.query_rank.unwrap_or(0) + m.latent_rank + m.rotary_dim;
            m.num_heads * (2 * m.head_dim() + m.content_dim + 3 * m.value_dim) + 2 * latents
        }
        Mixer::DeltaNet(d) => {
            // Queries, keys and values before and after their convolutions, the factors of decay, the gate, what is
            // read.
            6 * d.key_width() + 6 * d.value_width() + 3 * d.num_decays()
        }
        Mixer::Mamba1(m) => 7 * m.inner_size + 3 * (m.dt_rank + 2 * m.state_size),
    };
    let ffn = match &block.ffn {
        None => 0,
        Some(Ffn::Mlp(mlp)) => 2 * mlp.intermediate_size,
        // Gate and up; their product takes the place of the gate.
        Some(Ffn::GatedMlp(mlp)) => 3 * mlp.intermediate_size,
        Some(Ffn::SparseGatedMlp(sparse)) => 6 * sparse.mlp.intermediate_size,
        Some(Ffn::NormedGatedMlp(normed)) => 4 * normed.mlp.intermediate_size,
        Some(Ffn::XieluMlp { intermediate_size }) => 6 * intermediate_size,
        Some(Ffn::Moe(moe)) => {
            let shared = moe.shared.map_or(0, |shared| shared.mlp.intermediate_size);
            4 * moe.expert.intermediate_size().max(shared)
                + 3 * (moe.num_experts + moe.router.identity_experts)
        }
    };
    let between = match block.residual {
        Residual::DenseBetween(mlp) => 4 * mlp.intermediate_size,
        _ => 0,
    };
    5 * hidden + mixer.max(ffn).max(between) as u64
}

/// f32 values that a token takes while it waits for experts: residual stream, input, sum, and its choices.
fn pending_floats(hidden: u64, top_k: u64) -> u64 {
    3 * hidden + 4 * top_k
}

/// Experts per token, zero for models without experts.
fn layers_top_k(spec: &ModelSpec) -> u64 {
    let layers = spec.stacks.iter().flat_map(|stack| &stack.layers);
    let top_k = layers.filter_map(|block| match &block.ffn {
        Some(Ffn::Moe(moe)) => Some(moe.router.top_k as u64),
        _ => None,
    });
    top_k.max().unwrap_or(0)
}

/// 80 % of the memory that is available now, within the limit of a control group if there is one.
pub fn default_memory() -> ByteSize {
    let available = meminfo("MemAvailable:").unwrap_or(4 << 30);
    let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    ByteSize(limit.map_or(available, |limit| limit.min(available)) / 10 * 8)
}

/// Bytes of this process that are in memory now, and the most there were.
pub(crate) fn resident_memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name| kibibytes(&status, name).unwrap_or(0);
    (field("VmRSS:"), field("VmHWM:"))
}

fn meminfo(name: &str) -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, name)
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Sample;

    /// A Llama of 6.7 billion parameters, whose layers take 386 MiB each, and 32 samples of 32 tokens.
    fn plan(memory: &str) -> Result<MemoryPlan> {
        let config = r#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 4096,
            "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}"#;
        let config = sli_registry::HfConfig::parse(config, "config.json")?;
        let spec = sli_registry::ArchitectureRegistry::new().resolve(&config)?.spec;
        let mut samples = Samples::default();
        for _ in 0..32 {
            samples.input.push(&[0; 32]);
            samples.samples.push(Sample { id: None, truncated: false, scored_from: 1 });
        }
        let sizes = WeightSizes { largest_group: 386 << 20, largest_expert: 0, head_row: 8192, pinned: 0 };
        let (options, memory) = (&RunOptions::default(), memory.parse()?);
        let samples = &samples;
        Situation { spec: &spec, samples, options, sizes, resident: 8 << 20, memory, decided: None }.plan()
    }

    #[test]
    fn less_memory_makes_smaller_chunks_by_degrees() {
        let of = |memory: &str| plan(memory).map(|plan| (plan.chunk_tokens, plan.groups_ahead())).unwrap();
        assert_eq!(of("8GiB"), (1024, 1));
        let mut last = 1024;
        for mebibytes in (848..1400).step_by(8).rev() {
            let (chunk, ahead) = of(&format!("{mebibytes}MiB"));
            assert!(chunk <= last && chunk * 2 >= last, "{last} tokens, then {chunk} in {mebibytes} MiB");
            assert_eq!(ahead, 1, "in {mebibytes} MiB");
            last = chunk;
        }
        assert_eq!(last, 32);
        assert_eq!(of("500MiB"), (128, 0), "products of few rows take longer than reading beside them saves");
        assert_eq!(of("450MiB"), (32, 0), "a sample is not cut");
        assert!(matches!(plan("300MiB"), Err(SliError::Memory { .. })));
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
