//! DeepSeek-V4 (DeepSeek-AI 2026): several residual streams, attention over a window and summaries of what is further back,
//! and experts, which in the first layers a table assigns to each token of the vocabulary.

use serde_json::json;
use sli_core::{
    CompressedAttentionSpec, ExpertSpec, Family, HyperSpec, Mixer, MlpSpec, ModelSpec, NormKind, NormSpec,
    Residual, Result, RopeScaling, RopeSpec, RouterSpec, Scoring, SharedExpertSpec, Streams, Summaries,
    SummaryIndexer, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::layers;
use crate::config::HfConfig;
use crate::experts::{gated_experts, mix};
use crate::rope::{rope, rope_of_type};

mod names;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "deepseek_v4",
    family: Family::Moe,
    model_types: &["deepseek_v4"],
    architectures: &["DeepseekV4ForCausalLM", "DeepseekV4Model"],
    known_models: &[KnownModel::new(
        "DeepSeek-V4-Flash",
        "deepseek-ai/DeepSeek-V4-Flash-Base",
        "6 of 256 experts, 1 shared; 4 residual streams",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Layers that predict further tokens in training; what is always so, or follows from other sizes.
    config.ignore(&["num_nextn_predict_layers", "norm_topk_prob", "num_key_value_heads", "n_shared_experts"]);
    config.ignore(&["attention_bias", "topk_method", "expert_dtype", "kv_lora_rank", "v_head_dim"]);
    config.ignore(&["qk_nope_head_dim", "o_lora_groups"]);
    let inner = config.usize_or(config.first_of(&["moe_intermediate_size", "intermediate_size"]), 2048)?;
    let config = &config.with(json!({ "intermediate_size": inner, "attention_bias": false }));
    let config = &config.with_defaults(json!({ "head_dim": 512, "num_key_value_heads": 1 }));
    let mut spec = llama::spec(config)?;
    let norm = spec.stacks[0].layers[0].norm;
    let hyper = HyperSpec {
        streams: config.usize_or("hc_mult", 4)?,
        iterations: config.usize_or("hc_sinkhorn_iters", 20)?,
        eps: config.f64_or("hc_eps", 1e-6)?,
        norm: NormSpec { kind: NormKind::RmsUnweighted, ..norm },
    };
    spec.stacks[0].embedding.streams = Some(Streams::Copied(hyper));
    let num_layers = spec.num_layers();
    let summaries = summaries(config, num_layers)?;
    let [of_window, of_summaries] = rotations(config)?;
    let attention = CompressedAttentionSpec {
        num_heads: config.usize("num_attention_heads")?,
        head_dim: config.usize("head_dim")?,
        query_rank: config.usize_or("q_lora_rank", 1024)?,
        rope: of_window,
        window: config.usize_or("sliding_window", 128)?,
        norm,
        output_groups: config.usize_or("o_groups", 8)?,
        output_rank: config.usize_or("o_lora_rank", 1024)?,
        summaries: None,
    };
    for (layer, block) in layers(&mut spec) {
        block.residual = Residual::Hyper(hyper);
        let mut attention = CompressedAttentionSpec { summaries: summaries[layer], ..attention.clone() };
        if attention.summaries.is_some() {
            attention.rope = of_summaries.clone();
        }
        block.mixer = Mixer::CompressedAttention(attention);
    }
    add_experts(&mut spec, config)?;
    Ok(spec)
}

/// What each layer sees of tokens beyond its window, by its type.
fn summaries(config: &HfConfig, num_layers: usize) -> Result<Vec<Option<Summaries>>> {
    const SPARSE: &str = "compressed_sparse_attention";
    const HEAVY: &str = "heavily_compressed_attention";
    const WINDOW: &str = "sliding_attention";
    let rates = config.section("compress_rates")?;
    let rate = |legacy: &str, kind: &str, default: usize| match (config.optional_usize(legacy)?, &rates) {
        (Some(rate), _) => Ok(rate),
        (None, Some(rates)) => rates.usize_or(kind, default),
        (None, None) => Ok(default),
    };
    let (sparse, heavy) = (rate("compress_rate_csa", SPARSE, 4)?, rate("compress_rate_hca", HEAVY, 128)?);
    let indexer = SummaryIndexer {
        num_heads: config.usize_or("index_n_heads", 64)?,
        head_dim: config.usize_or("index_head_dim", 128)?,
        top_k: config.usize_or("index_topk", 512)?,
    };
    let ratios = config.usizes("compress_ratios")?;
    let types = match (config.strs("layer_types")?, ratios) {
        (Some(types), _) => types,
        (None, Some(ratios)) => {
            let kind = |ratio: &usize| match ratio {
                0 => Ok(WINDOW.to_string()),
                4 => Ok(SPARSE.to_string()),
                128 => Ok(HEAVY.to_string()),
                _ => Err(config.invalid("compress_ratios", "0, 4 or 128 for each layer")),
            };
            ratios.iter().map(kind).collect::<Result<_>>()?
        }
        (None, None) => {
            let kind = |layer: usize| if layer < 2 || layer.is_multiple_of(2) { HEAVY } else { SPARSE };
            (0..num_layers).map(|layer| kind(layer).to_string()).collect()
        }
    };
    if types.len() < num_layers {
        return Err(config.error(format!("{} types of attention for {num_layers} layers", types.len())));
    }
    let summaries = types.iter().take(num_layers).map(|kind| match kind.as_str() {
        WINDOW => Ok(None),
        SPARSE => Ok(Some(Summaries::Overlapping { rate: sparse, indexer })),
        HEAVY => Ok(Some(Summaries::Apart { rate: heavy })),
        _ => Err(config.invalid("layer_types", &format!("{WINDOW}, {SPARSE} or {HEAVY} for each layer"))),
    });
    summaries.collect()
}

/// The rotations of layers that see a window only, and of the others, whose base is larger and perhaps stretched.
fn rotations(config: &HfConfig) -> Result<[RopeSpec; 2]> {
    const THETA: f64 = 10_000.0;
    const SUMMARIES_THETA: f64 = 160_000.0;
    let head_dim = config.usize("head_dim")?;
    let rotary_dim = match config.optional_usize("qk_rope_head_dim")? {
        Some(rotary_dim) => rotary_dim as f64,
        None => head_dim as f64 / 8.0,
    };
    let share = config.f64_or("partial_rotary_factor", rotary_dim / head_dim as f64)?;
    let (theta, summaries_theta) =
        (config.f64_or("rope_theta", THETA)?, config.f64_or("compress_rope_theta", SUMMARIES_THETA)?);
    let config = &config.with(json!({ "partial_rotary_factor": share }));
    let nested = (rope_of_type(config, "main", head_dim)?, rope_of_type(config, "compress", head_dim)?);
    if let (Some(main), Some(compress)) = nested {
        config.ignore(&["rope_parameters.rope_type", "rope_parameters.rope_theta"]);
        return Ok([main, compress]);
    }
    let mut compress = RopeSpec { theta: summaries_theta, ..rope(config, head_dim)? };
    // Cosines and sines keep their length unless the config says otherwise.
    if let RopeScaling::Yarn { attention_factor, .. } = &mut compress.scaling
        && !states_attention_factor(config)?
    {
        *attention_factor = 1.0;
    }
    let main = RopeSpec { theta, scaling: RopeScaling::None, ..compress.clone() };
    Ok([main, compress])
}

fn states_attention_factor(config: &HfConfig) -> Result<bool> {
    let section = match config.section("rope_scaling")? {
        Some(section) => Some(section),
        None => config.section("rope_parameters")?,
    };
    Ok(section.is_some_and(|section| section.has("attention_factor")))
}

fn add_experts(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    const HASHED_LAYERS: usize = 3;
    let num_layers = spec.num_layers();
    let vocab_size = spec.stacks[0].embedding.vocab_size;
    let num_experts = config.usize_or(config.first_of(&["n_routed_experts", "num_local_experts"]), 256)?;
    let limit = config.f64_or("swiglu_limit", 10.0)?;
    let scoring = match config.str_or("scoring_func", "sqrtsoftplus")? {
        "sqrtsoftplus" => Scoring::SqrtSoftplus,
        "sigmoid" => Scoring::Sigmoid,
        _ => return Err(config.invalid("scoring_func", "sqrtsoftplus or sigmoid")),
    };
    let hashed_layers = config.count_or("num_hash_layers", HASHED_LAYERS)?;
    let hashed: Vec<bool> = match config.strs("mlp_layer_types")? {
        None => (0..num_layers).map(|layer| layer < hashed_layers).collect(),
        Some(types) if types.len() >= num_layers => types
            .iter()
            .map(|kind| match kind.as_str() {
                "hash_moe" => Ok(true),
                "moe" => Ok(false),
                _ => Err(config.invalid("mlp_layer_types", "hash_moe or moe for each layer")),
            })
            .collect::<Result<_>>()?,
        Some(_) => return Err(config.invalid("mlp_layer_types", "a type for each layer")),
    };
    let router = RouterSpec {
        scoring,
        normalize: Some(1e-20),
        scale: config.f64_or("routed_scaling_factor", 1.5)?,
        ..RouterSpec::softmax(config.usize_or("num_experts_per_tok", 6)?, false)
    };
    for chosen in [true, false] {
        let router = match chosen {
            true => RouterSpec { correction: true, ..router.clone() },
            false => RouterSpec { table: Some(vocab_size), ..router.clone() },
        };
        let is_of_kind = |layer: usize| hashed[layer] != chosen;
        mix(spec, is_of_kind, |mlp| {
            // Only the shared expert may have biases.
            let mut moe = gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size);
            moe.expert = ExpertSpec::Limited { mlp: MlpSpec { bias: false, ..mlp }, limit };
            moe.shared = Some(SharedExpertSpec { mlp, gated: false, scale: 1.0 });
            moe
        });
    }
    Ok(())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    names::map(config, spec)
}
