//! Where DeepSeek-V4's weights lie. Released files name modules as the authors' code does; files written by transformers
//! have its names for the embedding and the streams' end, and a prefix.

use sli_core::{CompressedAttentionSpec, LoadOp, Mixer, ModelSpec, Result, StackMap, TensorRole, WeightMap};

use crate::config::HfConfig;
use crate::experts::per_expert;
use crate::maps::{lm_head, modules};

const LAYER: &str = "{prefix}layers.{layer}.";

pub(super) fn map(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    const FFN: &str = "{prefix}layers.{layer}.ffn.";
    const EMBEDDING: [&str; 2] = ["embed.weight", "{prefix}embed_tokens.weight"];
    let mut stack = StackMap::default();
    stack.tensor(TokenEmbedding.weight(), &EMBEDDING, &[]).module(FinalNorm, "{prefix}norm");
    modules(&mut stack, LAYER, &[(MixerNorm, "attn_norm"), (FfnNorm, "ffn_norm")]);
    for (role, scale, name) in [(HyperMixer, HyperMixerScale, "attn"), (HyperFfn, HyperFfnScale, "ffn")] {
        let part = |part: &str| format!("{LAYER}hc_{name}_{part}");
        stack.tensor(role.weight(), &[&part("fn")], &[]).tensor(role.bias(), &[&part("base")], &[]).tensor(
            scale.weight(),
            &[&part("scale")],
            &[],
        );
    }
    for (key, part) in
        [(HyperOut.weight(), "fn"), (HyperOut.bias(), "base"), (HyperOutScale.weight(), "scale")]
    {
        stack.tensor(key, &[&format!("hc_head_{part}"), &format!("{{prefix}}hc_head.hc_{part}")], &[]);
    }
    let attentions = spec.stacks[0].layers.iter().filter_map(|block| match &block.mixer {
        Mixer::CompressedAttention(attention) => Some(attention),
        _ => None,
    });
    for attention in attentions {
        attention_names(&mut stack, attention);
    }
    per_expert(&mut stack, FFN, "gate", ["w1", "w3", "w2"]);
    stack.tensor(RouterCorrection.weight(), &[&format!("{FFN}gate.bias")], &[]);
    stack.tensor(RouterTable.weight(), &[&format!("{FFN}gate.tid2eid")], &[]);
    let shared = [(SharedGate, "w1"), (SharedUp, "w3"), (SharedDown, "w2")];
    modules(&mut stack, &format!("{FFN}shared_experts."), &shared);
    let mut map = WeightMap { prefixes: vec!["", "model."], stacks: vec![stack], ..WeightMap::default() };
    lm_head(&mut map, config.bool_or("tie_word_embeddings", false)?, &EMBEDDING, "head.weight");
    // Layers that predict further tokens.
    map.ignored.extend(["{prefix}mtp.*".into(), "mtp.*".into()]);
    Ok(map)
}

/// Heads are stored with the rotated dimensions last, as pairs of neighbours.
fn attention_names(stack: &mut StackMap, spec: &CompressedAttentionSpec) {
    use TensorRole::*;
    const BASE: &str = "{prefix}layers.{layer}.attn.";
    let (head_dim, rotary_dim) = (spec.head_dim, spec.rope.rotary_dim);
    let ordered = |head_dim| {
        [
            LoadOp::LastFirst { block: head_dim, last: rotary_dim },
            LoadOp::UnpermuteRope { head_dim, rotary_dim },
        ]
    };
    let names = [
        (MlaQueryDown, "wq_a"),
        (MlaQueryNorm, "q_norm"),
        (AttnOut, "wo_b"),
        (IndexWeights, "indexer.weights_proj"),
    ];
    modules(stack, BASE, &names);
    stack
        .module_with(GroupOut(0), &format!("{BASE}wo_a"), &[LoadOp::ExpertRows { count: spec.output_groups }])
        .module_with(MlaQuery, &format!("{BASE}wq_b"), &ordered(head_dim))
        .module_with(AttnK, &format!("{BASE}wkv"), &ordered(head_dim));
    let norms = ["kv_norm", "norm"].map(|name| format!("{BASE}{name}.weight"));
    stack.tensor(AttnKNorm.weight(), &norms.each_ref().map(String::as_str), &ordered(head_dim));
    stack.tensor(AttnSinks.weight(), &[&format!("{BASE}attn_sink")], &[]);
    let mut summaries = |base: String, width, [value, weight, places, norm]: [TensorRole; 4]| {
        let ops = ordered(width);
        stack
            .module_with(value, &format!("{base}wkv"), &ops)
            .module_with(weight, &format!("{base}wgate"), &ops)
            .tensor(places.weight(), &[&format!("{base}ape")], &[LoadOp::Transpose, ops[0], ops[1]])
            .tensor(norm.weight(), &[&format!("{base}norm.weight")], &ops);
    };
    let Some(of_attention) = &spec.summaries else { return };
    let roles = [SummaryValue, SummaryWeight, SummaryPlaces, SummaryNorm];
    summaries(format!("{BASE}compressor."), head_dim, roles);
    if let Some(indexer) = of_attention.indexer() {
        let roles = [IndexSummaryValue, IndexSummaryWeight, IndexSummaryPlaces, IndexSummaryNorm];
        summaries(format!("{BASE}indexer.compressor."), indexer.head_dim, roles);
        stack.module_with(IndexQuery, &format!("{BASE}indexer.wq_b"), &ordered(indexer.head_dim));
    }
}
