//! Checkpoints in the shape of released models, for tests of memory and speed: with random weights, or as holes that
//! take no room on disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use half::bf16;
use serde_json::{Map, Value, json};
use sli_core::tensor::f8_e4m3_to_f32;
use sli_core::{MXFP4_GROUP, ModelSpec, Part, Place, TensorNeed, TensorRole};
use sli_registry::{ArchitectureRegistry, HfConfig};

use crate::{Result, root};

/// Shards hold at most about this many bytes: written ones, and holes.
const SHARD_BYTES: [u64; 2] = [2 << 30, 16 << 30];

/// Rows and columns of a block of 8-bit floats that share a scale.
const FP8_BLOCK: usize = 128;

/// Writes `config.json` and shards for a shape into a directory; sparse ones are all zeros, in files that are holes.
pub(crate) fn synth(shape: &str, sparse: bool, directory: &Path) -> Result {
    let config = config(shape)?;
    std::fs::create_dir_all(directory)?;
    let path = directory.join("config.json");
    std::fs::write(&path, serde_json::to_string_pretty(&config)?)?;
    let tensors = tensors(&HfConfig::parse(&config.to_string(), &path)?, &config)?;

    let shards = shards(&tensors, SHARD_BYTES[usize::from(sparse)]);
    let mut index = Map::new();
    for (i, names) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        write_shard(&directory.join(&file), names, &tensors, sparse)?;
        index.extend(names.iter().map(|name| (name.clone(), Value::from(file.clone()))));
    }
    let total: u64 = tensors.values().map(Stored::bytes).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": index});
    std::fs::write(directory.join("model.safetensors.index.json"), serde_json::to_string(&index)?)?;
    println!("{}: {} tensors, {total} bytes in {} shards", directory.display(), tensors.len(), shards.len());
    Ok(())
}

/// The config of a shape: a released one of the registry's tests, or one that differs from it in sizes.
fn config(shape: &str) -> Result<Value> {
    let llama = |hidden: usize, layers: usize, heads: usize, kv_heads: usize, intermediate: usize| {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
            "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "intermediate_size": intermediate, "vocab_size": 32000,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
            "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2,
        })
    };
    let (released, changes) = match shape {
        "tinyllama-1.1b" => return Ok(llama(2048, 22, 32, 4, 5632)),
        "llama-6.7b" => return Ok(llama(4096, 32, 32, 32, 11008)),
        "llama-3b" => return Ok(llama(3200, 26, 32, 32, 8640)),
        "llama-13b" => return Ok(llama(5120, 40, 40, 40, 13824)),
        "llama-3.1-405b" => {
            let mut config = llama(16384, 126, 128, 8, 53248);
            config["vocab_size"] = json!(128_256);
            return Ok(config);
        }
        "minilm-l6" => ("all_minilm_l6_v2", json!({ "torch_dtype": "bfloat16" })),
        "kimi-k2" => ("kimi_k2", json!({})),
        "deepseek-v3" => ("deepseek_v3", json!({ "num_nextn_predict_layers": 0 })),
        "gpt-oss-120b" => ("gpt_oss_120b", json!({})),
        "qwen3-235b" => (
            "qwen3_30b_a3b",
            json!({
                "hidden_size": 4096, "num_hidden_layers": 94, "num_attention_heads": 64,
                "intermediate_size": 12288, "moe_intermediate_size": 1536, "max_window_layers": 94,
            }),
        ),
        "mixtral-8x22b" => (
            "mixtral_8x7b",
            json!({
                "hidden_size": 6144, "num_hidden_layers": 56, "num_attention_heads": 48,
                "intermediate_size": 16384, "max_position_embeddings": 65536,
            }),
        ),
        "moe-bench" => (
            "kimi_k2",
            json!({
                "hidden_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 16,
                "num_key_value_heads": 16, "q_lora_rank": 768, "kv_lora_rank": 512, "intermediate_size": 5632,
                "moe_intermediate_size": 1408, "n_routed_experts": 64, "num_experts_per_tok": 8,
                "first_k_dense_replace": 0, "vocab_size": 32000, "bos_token_id": 1, "eos_token_id": 2,
            }),
        ),
        other => return Err(format!("there is no shape '{other}': use one of {SHAPES}").into()),
    };
    let path = root().join(format!("crates/sli-registry/tests/configs/{released}/released.json"));
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    if let (Some(config), Value::Object(mut changes)) = (config.as_object_mut(), changes) {
        config.append(&mut changes);
    }
    Ok(config)
}

/// The shapes that there are, for people.
pub(crate) const SHAPES: &str = "tinyllama-1.1b, llama-3b, llama-6.7b, llama-13b, llama-3.1-405b, mixtral-8x22b, \
                                 qwen3-235b, gpt-oss-120b, deepseek-v3, kimi-k2, moe-bench, minilm-l6";

/// A tensor as it is stored.
struct Stored {
    shape: Vec<usize>,
    kind: Kind,
}

/// How a tensor is stored, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// bf16 weights.
    Weights,
    /// bf16 ones.
    Norm,
    /// 8-bit floats.
    Fp8,
    /// The scales of 8-bit floats, f32.
    Fp8Scales,
    /// MXFP4: codes, or exponents.
    Bytes,
}

impl Kind {
    fn dtype(self) -> (&'static str, u64) {
        match self {
            Self::Weights | Self::Norm => ("BF16", 2),
            Self::Fp8 => ("F8_E4M3", 1),
            Self::Fp8Scales => ("F32", 4),
            Self::Bytes => ("U8", 1),
        }
    }
}

impl Stored {
    fn elements(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }

    fn bytes(&self) -> u64 {
        self.elements() * self.kind.dtype().1
    }
}

/// All tensors of the model, by name; those that several needs share once.
fn tensors(parsed: &HfConfig, config: &Value) -> Result<BTreeMap<String, Stored>> {
    let resolved = ArchitectureRegistry::new().resolve(parsed)?;
    let prefix = resolved.weights.prefixes.first().copied().unwrap_or("");
    let is_fp8 = config["quantization_config"]["quant_method"] == "fp8";
    let mut tensors = BTreeMap::new();
    for (place, need) in needs(&resolved.spec) {
        let source = resolved.weights.source(place, need.key, prefix).ok_or("a tensor without a name")?;
        let (name, shape) = (source.names[0].clone(), source.stored_shape(&need.shape));
        let mut add = |name, shape, kind| tensors.insert(name, Stored { shape, kind });
        let is_plain =
            matches!(need.key.role, TensorRole::Router | TensorRole::TokenEmbedding | TensorRole::LmHead);
        match (name.strip_suffix("_blocks"), shape.as_slice()) {
            (Some(stem), [experts, rows, columns]) => {
                let groups = columns / MXFP4_GROUP;
                add(format!("{stem}_scales"), vec![*experts, *rows, groups], Kind::Bytes);
                add(name.clone(), vec![*experts, *rows, groups, MXFP4_GROUP / 2], Kind::Bytes);
            }
            (None, [rows, columns]) if is_fp8 && !is_plain => {
                let scales = vec![rows.div_ceil(FP8_BLOCK), columns.div_ceil(FP8_BLOCK)];
                add(format!("{name}_scale_inv"), scales, Kind::Fp8Scales);
                add(name, shape, Kind::Fp8);
            }
            _ => {
                let is_norm = need.shape.len() == 1 && need.key.part == Part::Weight;
                add(name, shape, if is_norm { Kind::Norm } else { Kind::Weights });
            }
        }
    }
    Ok(tensors)
}

fn needs(spec: &ModelSpec) -> Vec<(Place, TensorNeed)> {
    let mut all = Vec::new();
    let mut add = |place, needs: Vec<TensorNeed>| all.extend(needs.into_iter().map(|need| (place, need)));
    for (stack, spec) in spec.stacks.iter().enumerate() {
        add(Place::Embedding { stack }, spec.embedding.needs(spec.hidden_size));
        for (layer, block) in spec.layers.iter().enumerate() {
            add(Place::Layer { stack, layer }, block.needs(spec.hidden_size));
        }
        add(Place::FinalNorm { stack }, spec.final_norm_needs());
    }
    if let (Some(head), Some(stack)) = (&spec.head, spec.stacks.last()) {
        add(Place::Head, head.needs(stack.hidden_size));
    }
    all
}

fn shards(tensors: &BTreeMap<String, Stored>, most: u64) -> Vec<Vec<String>> {
    let mut shards: Vec<Vec<String>> = vec![Vec::new()];
    let mut filled = 0;
    for (name, tensor) in tensors {
        if filled > 0 && filled + tensor.bytes() > most {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += tensor.bytes();
        if let Some(shard) = shards.last_mut() {
            shard.push(name.clone());
        }
    }
    shards
}

fn write_shard(path: &Path, names: &[String], tensors: &BTreeMap<String, Stored>, sparse: bool) -> Result {
    let mut header = Map::new();
    let mut end = 0;
    for name in names {
        let tensor = &tensors[name];
        let offsets = [end, end + tensor.bytes()];
        let dtype = tensor.kind.dtype().0;
        header.insert(name.clone(), json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": offsets}));
        end = offsets[1];
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize((text.len() + 8).next_multiple_of(64) - 8, b' ');

    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(&text)?;
    if sparse {
        return Ok(file.into_inner()?.set_len(8 + text.len() as u64 + end)?);
    }
    let mut random = Random::new();
    let mut block = vec![0u8; 1 << 20];
    for name in names {
        let tensor = &tensors[name];
        let mut left = tensor.bytes() as usize;
        while left > 0 {
            let part = left.min(block.len());
            random.fill(tensor.kind, &mut block[..part]);
            file.write_all(&block[..part])?;
            left -= part;
        }
    }
    Ok(file.into_inner()?.sync_all()?)
}

/// The largest finite 8-bit float.
const FP8_MAX: f32 = 448.0;

/// The bounds of weights that are evenly spread with a standard deviation of 0.02.
fn bound() -> f32 {
    0.02 * 3f32.sqrt()
}

/// A source of weights.
struct Random {
    state: u64,
    /// Weights by 16 random bits, as bf16 and as codes of 8-bit floats.
    bf16: Vec<[u8; 2]>,
    fp8: Vec<u8>,
}

impl Random {
    fn new() -> Self {
        let even = |i: u32| i as f32 / 32768.0 - 1.0;
        let codes: Vec<(u8, f32)> = (0..=255).map(|code| (code, f8_e4m3_to_f32(code))).collect();
        let nearest = |value: f32| {
            let finite = codes.iter().filter(|(_, of_code)| of_code.is_finite());
            let distance = |a: &&(u8, f32)| (a.1 - value).abs();
            finite.min_by(|a, b| distance(a).total_cmp(&distance(b))).map_or(0, |(code, _)| *code)
        };
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            bf16: (0..1 << 16).map(|i| bf16::from_f32(even(i) * bound()).to_le_bytes()).collect(),
            fp8: (0..1 << 16).map(|i| nearest(even(i) * FP8_MAX)).collect(),
        }
    }

    fn fill(&mut self, kind: Kind, block: &mut [u8]) {
        match kind {
            Kind::Norm => block.as_chunks_mut::<2>().0.fill(bf16::ONE.to_le_bytes()),
            Kind::Fp8Scales => block.as_chunks_mut::<4>().0.fill((bound() / FP8_MAX).to_le_bytes()),
            Kind::Bytes => block.fill(0x79), // codes of 6 and -0.5, exponents of 2^-6
            Kind::Weights => {
                self.fill_by(block, 2, |random, bits, out| out.copy_from_slice(&random.bf16[bits]))
            }
            Kind::Fp8 => self.fill_by(block, 1, |random, bits, out| out[0] = random.fp8[bits]),
        }
    }

    /// Four weights of `size` bytes from each step of xorshift64.
    fn fill_by(&mut self, block: &mut [u8], size: usize, weight: impl Fn(&Self, usize, &mut [u8])) {
        for four in block.chunks_mut(4 * size) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            for (i, out) in four.chunks_mut(size).enumerate() {
                weight(self, (self.state >> (16 * i)) as usize & 0xffff, out);
            }
        }
    }
}

/// Shapes are checked against what the registry makes of them.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_the_size_of_the_released_models() {
        for (shape, parameters) in [
            ("tinyllama-1.1b", 1_100_048_384),
            ("llama-6.7b", 6_738_415_616),
            ("minilm-l6", 22_565_376),
            ("llama-3.1-405b", 405_853_388_800),
            ("mixtral-8x22b", 140_620_634_112),
            ("qwen3-235b", 235_093_634_560),
            ("deepseek-v3", 671_026_419_200),
        ] {
            let config = config(shape).unwrap();
            let parsed = HfConfig::parse(&config.to_string(), "config.json").unwrap();
            let tensors = tensors(&parsed, &config).unwrap();
            let weights = tensors.values().filter(|tensor| tensor.kind != Kind::Fp8Scales);
            let total: u64 = weights.map(Stored::elements).sum();
            assert_eq!(total, parameters, "{shape}");
        }
    }

    #[test]
    fn a_hole_takes_no_room() {
        use std::os::unix::fs::MetadataExt;
        let directory = std::env::temp_dir().join(format!("synth-{}", std::process::id()));
        synth("tinyllama-1.1b", true, &directory).unwrap();
        let files: Vec<_> = std::fs::read_dir(&directory).unwrap().flatten().collect();
        let size =
            |of: fn(&std::fs::Metadata) -> u64| files.iter().map(|f| of(&f.metadata().unwrap())).sum::<u64>();
        let (length, room) = (size(|m| m.len()), size(|m| m.blocks() * 512));
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(length > 2_200_000_000 && room < 1 << 20, "{length} bytes in {room}");
    }
}
