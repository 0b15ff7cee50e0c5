//! DBRX (Databricks 2024): layer norms without bias, clipped projections of queries, keys and values stored as one, and
//! many small experts, whose matrices follow one another in three tensors.

use serde_json::json;
use sli_core::{
    Family, LoadOp, ModelSpec, NormKind, NormSpec, Result, RouterSpec, StackMap, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, require, set_norm};
use crate::config::HfConfig;
use crate::experts::{experts_of, gated_experts, mix};
use crate::maps::{Fused, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "dbrx",
    family: Family::Moe,
    model_types: &["dbrx"],
    architectures: &["DbrxForCausalLM", "DBRXForCausalLM", "DbrxModel"],
    known_models: &[KnownModel::new("DBRX (132B)", "databricks/dbrx-base", "4 of 16 experts")],
    spec,
    weights,
};

/// What torch adds under the root where nothing is said.
const NORM_EPS: f64 = 1e-5;

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let attention = section(config, "attn_config")?;
    let feed_forward = section(config, "ffn_config")?;
    require(config, "tie_word_embeddings", false)?;
    // Said again at the top, and what only acts in training.
    config.ignore(&["num_key_value_heads"]);
    feed_forward.ignore(&["hidden_size", "moe_jitter_eps", "moe_loss_weight"]);
    require(&feed_forward, "uniform_expert_assignment", false)?;
    let activation = match feed_forward.section("ffn_act_fn")? {
        Some(function) => function.str_or("name", "silu")?.to_string(),
        None => "silu".to_string(),
    };
    let names_of_llama = json!({
        "hidden_size": config.usize("d_model")?,
        "num_attention_heads": config.usize("n_heads")?,
        "num_hidden_layers": config.layers("n_layers")?,
        "max_position_embeddings": config.usize("max_seq_len")?,
        "num_key_value_heads": attention.usize_or("kv_n_heads", 1)?,
        "intermediate_size": feed_forward.usize("ffn_hidden_size")?,
        "hidden_act": activation,
    });
    // Released configs have the rotary base beside the heads, transformers 5 has one at the top, which counts.
    let theta = attention.f64_or("rope_theta", 10_000.0)?;
    let llama = config.with(names_of_llama).with_defaults(json!({ "rope_theta": theta }));
    let mut spec = llama::spec(&llama)?;
    set_norm(&mut spec, NormSpec { kind: NormKind::LayerUnbiased, eps: NORM_EPS });
    let clip = attention.optional_f64("clip_qkv")?;
    attentions(&mut spec).for_each(|(_, attention)| attention.clip = clip);

    const EXPONENT: &str = "moe_normalize_expert_weights";
    let feed_forward = feed_forward.with_defaults(json!({ EXPONENT: 1.0 }));
    let exponent = feed_forward.optional_f64(EXPONENT)?;
    if exponent.is_some_and(|exponent| exponent != 1.0) {
        return Err(feed_forward.invalid(EXPONENT, "1: weights that sum to one, or nothing"));
    }
    let router = RouterSpec::softmax(feed_forward.usize_or("moe_top_k", 1)?, exponent.is_some());
    let num_experts = feed_forward.usize_or("moe_num_experts", 4)?;
    mix(&mut spec, |_| true, |mlp| gated_experts(num_experts, router.clone(), mlp, mlp.intermediate_size));
    Ok(spec)
}

/// A section that is a config of its own, with the keys that any has.
fn section(config: &HfConfig, key: &str) -> Result<HfConfig> {
    let section = config.section(key)?.ok_or_else(|| config.invalid(key, "an object"))?;
    section.ignore(&["tie_word_embeddings"]);
    Ok(section)
}

fn weights(_config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    const BLOCK: &str = "{prefix}blocks.{layer}.";
    let mut stack = StackMap::default();
    modules(&mut stack, "{prefix}", &[(TokenEmbedding, "wte"), (FinalNorm, "norm_f")]);
    let names = [
        (MixerNorm, "norm_attn_norm.norm_1"),
        (AttnOut, "norm_attn_norm.attn.out_proj"),
        (FfnNorm, "norm_attn_norm.norm_2"),
        (Router, "ffn.router.layer"),
    ];
    modules(&mut stack, BLOCK, &names);
    if let sli_core::Mixer::Attention(attention) = &spec.stacks[0].layers[0].mixer {
        let (queries, keys) =
            (attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim);
        Fused::new(&format!("{BLOCK}norm_attn_norm.attn.Wqkv"))
            .split(&mut stack, &[(AttnQ, queries), (AttnK, keys), (AttnV, keys)]);
    }
    if let Some(moe) = experts_of(spec) {
        let rows = LoadOp::ExpertRows { count: moe.num_experts };
        let experts: [(_, _, &[LoadOp]); 3] = [
            (ExpertGate(0), "w1", &[rows]),
            (ExpertUp(0), "v1", &[rows]),
            (ExpertDown(0), "w2", &[rows, LoadOp::Transpose]),
        ];
        for (role, name, ops) in experts {
            stack.tensor(role.weight(), &[&format!("{BLOCK}ffn.experts.mlp.{name}")], ops);
        }
    }
    let mut map =
        WeightMap { prefixes: vec!["transformer.", ""], stacks: vec![stack], ..WeightMap::default() };
    map.head.module(LmHead, "lm_head");
    map.ignored.extend(
        ["{prefix}blocks.{layer}.norm_attn_norm.attn.rotary_emb.inv_freq", "score.*"].map(String::from),
    );
    Ok(map)
}
