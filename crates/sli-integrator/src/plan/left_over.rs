//! What a plan does with memory that is left over.

use super::{LAYER_PART, MemoryPlan, Situation};
use crate::chunk_memory::{layers_top_k, pending_floats};
use crate::chunks::Chunks;

/// Where a thread's share of a product with a matrix of the width squared has fewer operations than this, a few
/// milliseconds, threads wait for one another at the ends of kernels for a good part of the time: then each takes a chunk of
/// its own.
const WORTH_SHARING: u64 = 1 << 30;

impl Situation<'_> {
    /// Gives memory that is left over to the table of embeddings, to larger waves and to the head, which need it one after
    /// another.
    pub(super) fn use_what_is_left(&self, mut plan: MemoryPlan) -> MemoryPlan {
        let left = self.memory.bytes() - plan.peak();
        let (hidden, tokens, top_k) = (self.hidden(), self.num_tokens(), layers_top_k(self.spec));
        let chunks = Chunks::new(self.samples, plan.chunk_tokens, self.options.batch_size);
        self.put_chunks_abreast(&mut plan, &chunks, left);
        // Rows that are read chunk by chunk are read again and again, all together more than the table has.
        plan.embedding_resident =
            chunks.len() > 1 && tokens as u64 > self.sizes.embedding_rows && self.sizes.embedding <= left;
        if top_k > 0 {
            plan.wave_tokens += (left / (pending_floats(hidden, top_k) * 4)) as usize;
        }
        let vocab = self.spec.head.as_ref().map_or(0, |head| head.vocab_size as u64);
        // While the head runs, no layer is in memory.
        let left = left + plan.largest_group + plan.read_ahead;
        plan.head_wave_tokens += (left / (8 * hidden).max(1)) as usize;
        // Tiles that all tokens go through together need not stay.
        plan.head_resident = tokens > plan.head_wave_tokens && vocab * self.sizes.head_row <= left;
        plan
    }

    /// Gives each thread a chunk of its own, as far as `left` bytes reach, where layers are so narrow that threads would wait
    /// for one another. Experts are worked on side by side instead.
    fn put_chunks_abreast(&self, plan: &mut MemoryPlan, chunks: &Chunks, left: u64) {
        let chunk = chunks.largest(self.samples) as u64;
        let share = 2 * chunk * self.hidden().pow(2) / self.most_abreast as u64;
        if share >= WORTH_SHARING || layers_top_k(self.spec) > 0 {
            return;
        }
        // With its input and its output.
        let another = self.chunk_bytes(chunk) + 2 * (self.hidden() + self.carried()) * chunk * 4;
        let most = self.most_abreast.min(chunks.len()) as u64;
        let abreast = (1 + left / another.max(1)).clamp(1, most.max(1));
        plan.chunks_abreast = abreast as usize;
        for part in plan.parts.iter_mut().filter(|part| part.name == LAYER_PART) {
            part.bytes += (abreast - 1) * another;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::tests::{plan_for, plan_of, samples};
    use crate::weight_sizes::WeightSizes;

    #[test]
    fn the_head_stays_only_where_it_is_needed_twice() {
        const SAMPLES: usize = 4096; // the states before the head take 2 GiB
        let head_of = |memory: &str| {
            let plan = plan_for(SAMPLES, memory, None).unwrap();
            (plan.head_resident, plan.head_wave_tokens < SAMPLES * 32)
        };
        assert_eq!(head_of("2GiB"), (true, true));
        assert_eq!(head_of("64GiB"), (false, false), "all tokens go through it together");
    }

    #[test]
    fn the_embedding_stays_where_more_rows_are_taken_than_it_has() {
        let kept = |samples, memory: &str| plan_for(samples, memory, None).unwrap().embedding_resident;
        assert!(kept(1001, "3GiB") && !kept(1000, "3GiB"), "32,000 tokens");
        assert!(!kept(1001, "1100MiB"), "no memory is left for it");
    }

    #[test]
    fn narrow_layers_take_a_chunk_for_each_thread_as_memory_allows() {
        let abreast = |threads: usize, hidden_size: usize, memory: &str| {
            let config = format!(
                r#"{{"architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": {hidden_size},
                "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 8}}"#
            );
            let (samples, sizes) = (&samples(1024), &WeightSizes::default());
            let plan = plan_of(&config, samples, sizes, memory.parse().unwrap(), None, threads).unwrap();
            assert!(plan.peak() <= plan.memory.bytes());
            (plan.chunk_tokens, plan.chunks_abreast)
        };
        assert_eq!(abreast(8, 384, "4GiB"), (1024, 8));
        assert_eq!(abreast(1, 384, "4GiB"), (1024, 1));
        assert_eq!(abreast(8, 4096, "4GiB"), (1024, 1), "their products are worth sharing");
        let (chunk, some) = abreast(8, 384, "160MiB");
        assert!(chunk == 1024 && (2..8).contains(&some), "{some} in 160 MiB");
    }
}
