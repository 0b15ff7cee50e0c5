//! Nemotron-H (NVIDIA 2025): each layer is one of Mamba-2's mixer, attention without positions, an MLP or experts. In
//! Nemotron 3 the experts are many, and in the larger ones they work on a narrow state.

use serde_json::json;
use sli_core::{
    BlockSpec, ExpertSpec, Family, Ffn, GatedNormSpec, LatentSpec, Mamba2Spec, Mask, Mixer, MlpSpec,
    ModelSpec, MoeSpec, NormSpec, Residual, Result, SharedExpertSpec, StackKind, StackMap, StackSpec,
    TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{activation, model, multi_head, plain_head, token_embedding};
use crate::config::{HfConfig, MAX_LAYERS};
use crate::experts::sigmoid_router;
use crate::maps::modules;
use crate::ssm::mamba2_names;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "nemotron_h",
    family: Family::Mamba,
    model_types: &["nemotron_h"],
    architectures: &["NemotronHForCausalLM", "NemotronHModel"],
    known_models: &[
        KnownModel::new("Nemotron-H-47B/56B", "nvidia/Nemotron-H-56B-Base-8K", "10 of 118 layers attend"),
        KnownModel::new(
            "Nemotron-3-Nano-30B-A3B",
            "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
            "6 of 128 experts in 23 of 52 layers",
        ),
    ],
    spec,
    weights,
};

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scan,
    Attention,
    Mlp,
    Experts,
}

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Initial values, how sums are computed, and sizes that follow from others.
    config.ignore(&["time_step_floor", "time_step_max", "time_step_rank", "rescale_prenorm_residual"]);
    config.ignore(&["residual_in_fp32", "mamba_ssm_cache_dtype", "use_mamba_kernels", "num_logits_to_keep"]);
    config.ignore(&["chunk_size", "mamba_chunk_size", "moe_shared_expert_overlap", "expand", "mamba_expand"]);
    config.ignore(&["mamba_dt_max", "mamba_dt_init_floor", "num_hidden_layers"]);
    // What the class does without: windows, positions, biases of attention and of the scan by these names, and other
    // epsilons.
    config.ignore(&["sliding_window", "max_position_embeddings", "rope_theta", "partial_rotary_factor"]);
    config.ignore(&["attention_bias", "mamba_proj_bias", "rms_norm_eps", "norm_eps"]);
    // Steps have no bound but the smallest initial value.
    config.ignore(&["time_step_limit", "mamba_dt_limit"]);
    // Further tokens, which are predicted in training.
    config.ignore(&["num_nextn_predict_layers", "mtp_layers_block_type", "mtp_hybrid_override_pattern"]);
    let config = &config.with_defaults(json!({ "num_experts_per_tok": 2 }));
    let (hidden_size, vocab_size) = (config.usize("hidden_size")?, config.usize("vocab_size")?);
    let norm = NormSpec::rms(config.f64_or("layer_norm_epsilon", 1e-5)?);
    let kinds = kinds(config)?;
    let (scan, attention) = (scan(config, norm)?, attention(config)?);
    let mlp = MlpSpec {
        intermediate_size: config.usize_or("intermediate_size", 21_504)?,
        activation: activation(config, "mlp_hidden_act", "relu2")?,
        bias: config.bool_or("mlp_bias", false)?,
    };
    let experts = experts(config, mlp, kinds.contains(&Kind::Experts))?;
    let layer = |kind: &Kind| {
        let (mixer, ffn) = match (kind, &experts) {
            (Kind::Scan, _) => (Mixer::Mamba2(scan), None),
            (Kind::Attention, _) => (attention.clone(), None),
            (Kind::Experts, Some(experts)) => (Mixer::None, Some(Ffn::Moe(experts.clone()))),
            (Kind::Mlp | Kind::Experts, _) => (Mixer::None, Some(Ffn::Mlp(mlp))),
        };
        BlockSpec { mixer, cross_attention: None, ffn, residual: Residual::PreNorm, norm }
    };
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: token_embedding(vocab_size),
        layers: kinds.iter().map(layer).collect(),
        final_norm: Some(norm),
    };
    Ok(model(vec![stack], plain_head(config, vocab_size), None))
}

/// What the layers are, by a name each or in one word of a letter each.
fn kinds(config: &HfConfig) -> Result<Vec<Kind>> {
    const NAMES: &str = "linear_attention, full_attention, mlp or moe for each layer";
    const LETTERS: &str = "a letter of M, *, - and E for each layer";
    let key = config.first_of(&["layers_block_type", "layer_types"]);
    let of_name = |name: &String| match name.as_str() {
        "linear_attention" | "mamba" => Some(Kind::Scan),
        "full_attention" | "attention" => Some(Kind::Attention),
        "mlp" => Some(Kind::Mlp),
        "moe" => Some(Kind::Experts),
        _ => None,
    };
    let of_letter = |letter: char| match letter {
        'M' => Some(Kind::Scan),
        '*' => Some(Kind::Attention),
        '-' => Some(Kind::Mlp),
        'E' => Some(Kind::Experts),
        _ => None,
    };
    const PATTERN: &str = "hybrid_override_pattern";
    let (key, expected, kinds) = match config.strs(key)? {
        Some(names) => {
            config.ignore(&[PATTERN]);
            (key, NAMES, names.iter().map(of_name).collect::<Option<Vec<_>>>())
        }
        None => (PATTERN, LETTERS, config.str_or(PATTERN, "ME*-")?.chars().map(of_letter).collect()),
    };
    let kinds = kinds.filter(|kinds| (1..=MAX_LAYERS).contains(&kinds.len()));
    kinds.ok_or_else(|| config.invalid(key, expected))
}

fn scan(config: &HfConfig, norm: NormSpec) -> Result<Mamba2Spec> {
    let bias = config.bool_or("use_bias", false)?;
    let min_step = config.f64_or(config.first_of(&["mamba_dt_min", "time_step_min"]), 1e-3)?;
    Ok(Mamba2Spec {
        num_heads: config.usize_or("mamba_num_heads", 128)?,
        head_dim: config.usize_or("mamba_head_dim", 64)?,
        num_groups: config.usize_or(config.first_of(&["mamba_n_groups", "n_groups"]), 8)?,
        state_size: config.usize_or("ssm_state_size", 128)?,
        conv_width: config.usize_or(config.first_of(&["mamba_d_conv", "conv_kernel"]), 4)?,
        activation: activation(config, "mamba_hidden_act", "silu")?,
        conv_bias: config.bool_or(config.first_of(&["mamba_conv_bias", "use_conv_bias"]), true)?,
        input_bias: bias,
        output_bias: bias,
        min_step: Some(min_step),
        max_step: None,
        norm: Some(GatedNormSpec { norm, before_gate: false }),
        multipliers: None,
    })
}

fn attention(config: &HfConfig) -> Result<Mixer> {
    let num_heads = config.usize_or("num_attention_heads", 32)?;
    let head_dim = config.usize_or(config.first_of(&["head_dim", "attention_head_dim"]), 128)?;
    let mut attention = multi_head(num_heads, head_dim, Mask::Causal, false);
    attention.num_kv_heads = match config.is_null("num_key_value_heads") {
        true => num_heads,
        false => config.usize_or("num_key_value_heads", 8)?,
    };
    Ok(Mixer::Attention(attention))
}

/// The experts of the layers that have some; their sizes are there in every config.
fn experts(config: &HfConfig, mlp: MlpSpec, some: bool) -> Result<Option<MoeSpec>> {
    let num_experts = config.count_or("n_routed_experts", 8)?;
    let inner = config.usize_or("moe_intermediate_size", 7688)?;
    let shared = config.usize_or("moe_shared_expert_intermediate_size", 7688)?;
    let (latent, router) = (config.optional_usize("moe_latent_size")?, sigmoid_router(config)?);
    // The shared expert is one, however many it is made of.
    config.ignore(&["n_shared_experts"]);
    let expert = MlpSpec { intermediate_size: inner, bias: false, ..mlp };
    let shared = MlpSpec { intermediate_size: shared, ..mlp };
    Ok(some.then_some(MoeSpec {
        num_experts,
        router,
        expert: ExpertSpec::Plain(expert),
        shared: Some(SharedExpertSpec { mlp: shared, gated: false, scale: 1.0 }),
        bias: false,
        latent: latent.map(|width| LatentSpec { width, bias: mlp.bias }),
    }))
}

fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    const LAYER: &str = "{prefix}layers.{layer}.";
    const MIXER: &str = "{prefix}layers.{layer}.mixer.";
    let mut stack = StackMap::default();
    stack.module(TokenEmbedding, "{prefix}embeddings").module(FinalNorm, "{prefix}norm_f");
    modules(&mut stack, LAYER, &[(MixerNorm, "norm"), (FfnNorm, "norm")]);
    let names = [
        (AttnQ, "q_proj"),
        (AttnK, "k_proj"),
        (AttnV, "v_proj"),
        (AttnOut, "o_proj"),
        (MlpUp, "up_proj"),
        (MlpDown, "down_proj"),
        (Router, "gate"),
        (SharedUp, "shared_experts.up_proj"),
        (SharedDown, "shared_experts.down_proj"),
        (ExpertsIn, "fc1_latent_proj"),
        (ExpertsOut, "fc2_latent_proj"),
        (ExpertUp(0), "experts.{expert}.up_proj"),
        (ExpertDown(0), "experts.{expert}.down_proj"),
    ];
    modules(&mut stack, MIXER, &names);
    let correction = format!("{MIXER}gate.e_score_correction_bias");
    stack.tensor(RouterCorrection.weight(), &[&correction], &[]);
    mamba2_names(&mut stack, MIXER);
    let mut map =
        WeightMap { prefixes: vec!["backbone.", "model.", ""], stacks: vec![stack], ..WeightMap::default() };
    // The class has a matrix of its own for the head all the same; where there is none, the table serves.
    let mut head = vec!["lm_head.weight"];
    if config.bool_or("tie_word_embeddings", false)? {
        head.push("{prefix}embeddings.weight");
    }
    map.head.tensor(LmHead.weight(), &head, &[]);
    map.ignored.push("mtp.*".into());
    Ok(map)
}
