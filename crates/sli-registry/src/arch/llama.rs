//! Llama (Touvron et al. 2023), the base of most decoders: RMS norms before each branch, rotary positions, grouped
//! key heads, gated MLP, no biases unless the config asks for them.

use sli_core::{
    AttentionSpec, BlockSpec, Family, Ffn, Mask, Mixer, MlpSpec, ModelSpec, NormSpec, PositionSpec,
    ProjectionBias, Residual, Result, StackKind, StackMap, StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{
    activation, model, multi_head, plain_head, rotary_max_length, share_per_head, token_embedding,
};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules};
use crate::rope::rope;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "llama",
    family: Family::Llama,
    model_types: &["llama", "aquila", "skywork"],
    architectures: &["LlamaForCausalLM", "LlamaModel", "AquilaForCausalLM", "SkyworkForCausalLM"],
    known_models: &[
        KnownModel::new("Llama-1-7B", "huggyllama/llama-7b", "a key head per query head"),
        KnownModel::new("Llama-2-7B/13B", "meta-llama/Llama-2-7b-hf", "a key head per query head"),
        KnownModel::new("Llama-2-70B", "meta-llama/Llama-2-70b-hf", "8 key heads"),
        KnownModel::new("CodeLlama-34B", "codellama/CodeLlama-34b-hf", "rotary base 1e6"),
        KnownModel::new("Llama-3-8B/70B", "meta-llama/Meta-Llama-3-70B", "rotary base 5e5, 128256 tokens"),
        KnownModel::new("Llama-3.1-405B", "meta-llama/Llama-3.1-405B", "126 layers, llama3 rotary scaling"),
        KnownModel::new("Llama-3.2-1B/3B", "meta-llama/Llama-3.2-1B", "tied head"),
        KnownModel::new("Llama-3.3-70B", "meta-llama/Llama-3.3-70B-Instruct", "llama3 rotary scaling"),
        KnownModel::new("TinyLlama-1.1B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "4 key heads"),
        KnownModel::new("Yi-34B", "01-ai/Yi-34B", ""),
        KnownModel::new("DeepSeek-LLM-67B", "deepseek-ai/deepseek-llm-67b-base", ""),
        KnownModel::new("DeepSeek-Coder-33B", "deepseek-ai/deepseek-coder-33b-base", "linear rotary scaling"),
        KnownModel::new("SOLAR-10.7B", "upstage/SOLAR-10.7B-v1.0", ""),
        KnownModel::new("Helium-1-2B", "kyutai/helium-1-2b", ""),
    ],
    spec,
    weights,
};

pub(crate) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How products are cut up, and what the tokenizer cuts.
    config.ignore(&["pretraining_tp", "max_sequence_length", "max_tokenizer_truncation"]);
    let hidden_size = config.usize("hidden_size")?;
    let vocab_size = config.usize("vocab_size")?;
    let norm = NormSpec::rms(config.f64_or("rms_norm_eps", 1e-6)?);

    let num_heads = config.usize("num_attention_heads")?;
    let head_dim = match config.optional_usize("head_dim")? {
        Some(head_dim) => head_dim,
        None => share_per_head(config, hidden_size, num_heads)?,
    };
    let rope = rope(config, head_dim)?;
    let max_length = rotary_max_length(config, &rope.scaling)?;
    let attention = AttentionSpec {
        num_kv_heads: config.usize_or("num_key_value_heads", num_heads)?,
        position: PositionSpec::Rope(rope),
        bias: ProjectionBias::all(config.bool_or("attention_bias", false)?),
        ..multi_head(num_heads, head_dim, Mask::Causal, false)
    };
    let mlp = MlpSpec {
        intermediate_size: config.usize("intermediate_size")?,
        activation: activation(config, "hidden_act", "silu")?,
        bias: config.bool_or("mlp_bias", false)?,
    };
    let block = BlockSpec {
        mixer: Mixer::Attention(attention),
        cross_attention: None,
        ffn: Some(Ffn::GatedMlp(mlp)),
        residual: Residual::PreNorm,
        norm,
    };
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size,
        embedding: token_embedding(vocab_size),
        layers: vec![block; config.layers("num_hidden_layers")?],
        final_norm: Some(norm),
    };
    Ok(model(vec![stack], plain_head(config, vocab_size), max_length))
}

pub(crate) fn weights(config: &HfConfig, _spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    stack.module(TokenEmbedding, "{prefix}embed_tokens").module(FinalNorm, "{prefix}norm");
    let names = [
        (MixerNorm, "input_layernorm"),
        (AttnQ, "self_attn.q_proj"),
        (AttnK, "self_attn.k_proj"),
        (AttnV, "self_attn.v_proj"),
        (AttnOut, "self_attn.o_proj"),
        (FfnNorm, "post_attention_layernorm"),
        (MlpGate, "mlp.gate_proj"),
        (MlpUp, "mlp.up_proj"),
        (MlpDown, "mlp.down_proj"),
    ];
    modules(&mut stack, "{prefix}layers.{layer}.", &names);
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    lm_head(&mut map, tied, &["{prefix}embed_tokens.weight"], "lm_head.weight");
    // Tables that old checkpoints carry, and heads of other tasks.
    map.ignored.extend(
        ["{prefix}layers.{layer}.self_attn.rotary_emb.inv_freq", "{prefix}rotary_emb.inv_freq", "score.*"]
            .map(String::from),
    );
    Ok(map)
}
