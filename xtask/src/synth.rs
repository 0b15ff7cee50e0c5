//! Checkpoints with random weights in the shape of released models, for tests of memory and speed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use half::bf16;
use serde_json::{Map, Value, json};
use sli_core::{ModelSpec, Part, Place, TensorNeed};
use sli_registry::{ArchitectureRegistry, HfConfig};

use crate::Result;

/// Shards hold at most about this many bytes.
const SHARD_BYTES: u64 = 2 << 30;

/// Writes `config.json` and bf16 shards for a shape into a directory.
pub(crate) fn synth(shape: &str, directory: &Path) -> Result {
    let config = config(shape)?;
    std::fs::create_dir_all(directory)?;
    let path = directory.join("config.json");
    std::fs::write(&path, serde_json::to_string_pretty(&config)?)?;
    let tensors = tensors(&HfConfig::parse(&config.to_string(), &path)?)?;

    let shards = shards(&tensors);
    let mut index = Map::new();
    for (i, names) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        write_shard(&directory.join(&file), names, &tensors)?;
        index.extend(names.iter().map(|name| (name.clone(), Value::from(file.clone()))));
    }
    let total: u64 = tensors.values().map(|tensor| tensor.bytes()).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": index});
    std::fs::write(directory.join("model.safetensors.index.json"), serde_json::to_string_pretty(&index)?)?;
    println!("{}: {} tensors, {total} bytes in {} shards", directory.display(), tensors.len(), shards.len());
    Ok(())
}

/// The config of a shape, with the sizes of the released model.
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
    match shape {
        "tinyllama-1.1b" => Ok(llama(2048, 22, 32, 4, 5632)),
        "llama-6.7b" => Ok(llama(4096, 32, 32, 32, 11008)),
        other => Err(format!("there is no shape '{other}': use tinyllama-1.1b or llama-6.7b").into()),
    }
}

/// A tensor as it is stored.
struct Stored {
    shape: Vec<usize>,
    is_norm: bool,
}

impl Stored {
    fn elements(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64
    }

    fn bytes(&self) -> u64 {
        self.elements() * 2
    }
}

/// All tensors of the model, by name; those that several needs share once.
fn tensors(config: &HfConfig) -> Result<BTreeMap<String, Stored>> {
    let resolved = ArchitectureRegistry::new().resolve(config)?;
    let prefix = resolved.weights.prefixes.first().copied().unwrap_or("");
    let mut tensors = BTreeMap::new();
    for (place, need) in needs(&resolved.spec) {
        let source = resolved.weights.source(place, need.key, prefix).ok_or("a tensor without a name")?;
        let is_norm = need.shape.len() == 1 && need.key.part == Part::Weight;
        tensors.insert(source.names[0].clone(), Stored { shape: source.stored_shape(&need.shape), is_norm });
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

fn shards(tensors: &BTreeMap<String, Stored>) -> Vec<Vec<String>> {
    let mut shards: Vec<Vec<String>> = vec![Vec::new()];
    let mut filled = 0;
    for (name, tensor) in tensors {
        if filled > 0 && filled + tensor.bytes() > SHARD_BYTES {
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

fn write_shard(path: &Path, names: &[String], tensors: &BTreeMap<String, Stored>) -> Result {
    let mut header = Map::new();
    let mut end = 0;
    for name in names {
        let tensor = &tensors[name];
        let offsets = [end, end + tensor.bytes()];
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": offsets}));
        end = offsets[1];
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize((text.len() + 8).next_multiple_of(64) - 8, b' ');

    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(&text)?;
    let values = table();
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let mut block = vec![0u8; 1 << 20];
    for name in names {
        let tensor = &tensors[name];
        let mut left = tensor.bytes() as usize;
        while left > 0 {
            let part = left.min(block.len());
            if tensor.is_norm {
                block[..part].as_chunks_mut::<2>().0.fill(bf16::ONE.to_le_bytes());
            } else {
                fill(&mut block[..part], &values, &mut random);
            }
            file.write_all(&block[..part])?;
            left -= part;
        }
    }
    Ok(file.into_inner()?.sync_all()?)
}

/// Weights of a standard deviation of 0.02, evenly spread.
fn table() -> Vec<[u8; 2]> {
    let value = |i: u32| (i as f32 / 32768.0 - 1.0) * 0.02 * 3f32.sqrt();
    (0..1 << 16).map(|i| bf16::from_f32(value(i)).to_le_bytes()).collect()
}

/// Four weights from each step of xorshift64.
fn fill(block: &mut [u8], values: &[[u8; 2]], state: &mut u64) {
    for four in block.chunks_mut(8) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        for (i, weight) in four.chunks_mut(2).enumerate() {
            weight.copy_from_slice(&values[(*state >> (16 * i)) as usize & 0xffff]);
        }
    }
}

/// Shapes are checked against what the registry makes of them.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_the_size_of_the_released_models() {
        for (shape, parameters) in [("tinyllama-1.1b", 1_100_048_384), ("llama-6.7b", 6_738_415_616)] {
            let config = HfConfig::parse(&config(shape).unwrap().to_string(), "config.json").unwrap();
            let total: u64 = tensors(&config).unwrap().values().map(Stored::elements).sum();
            assert_eq!(total, parameters, "{shape}");
        }
    }
}
