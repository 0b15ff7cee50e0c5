//! Nomic Embed (Nussbaum et al. 2024): BERT with rotations in place of learned positions, gated MLPs, and no biases.
//! Released configs use GPT-2's names, transformers BERT's.

use serde_json::json;
use sli_core::{Family, Ffn, MlpSpec, ModelSpec, ProjectionBias, Result, StackMap, TensorRole, WeightMap};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, layers, require, rotate};
use crate::config::HfConfig;
use crate::maps::{Fused, decoder_of_masked, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "nomic_bert",
    family: Family::Encoder,
    model_types: &["nomic_bert"],
    architectures: &["NomicBertForMaskedLM", "NomicBertForPreTraining", "NomicBertModel"],
    known_models: &[KnownModel::new("Nomic-embed-text-v1.5", "nomic-ai/nomic-embed-text-v1.5", "no head")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let config = &if config.has("n_embd") { with_names_of_bert(config)? } else { config.clone() };
    let config = &config.with_defaults(json!({ "hidden_act": "silu", "rope_theta": 1000.0 }));
    let mut spec = bert::spec(config)?;
    for (_, block) in layers(&mut spec) {
        if let Some(Ffn::Mlp(mlp)) = block.ffn {
            block.ffn = Some(Ffn::GatedMlp(MlpSpec { bias: false, ..mlp }));
        }
    }
    attentions(&mut spec).for_each(|(_, attention)| attention.bias = ProjectionBias::default());
    rotate(&mut spec, config)?;
    Ok(spec)
}

/// The same settings under the names that transformers gives them.
fn with_names_of_bert(config: &HfConfig) -> Result<HfConfig> {
    // Kernels, initial values, what other tasks make of the output, and what the names of the projections say.
    config.ignore(&["dense_seq_output", "fused_bias_fc", "fused_dropout_add_ln", "use_xentropy"]);
    config.ignore(&["pad_vocab_size_multiple", "reorder_and_upcast_attn", "max_trained_positions"]);
    config.ignore(&["summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"]);
    config.ignore(&["summary_use_proj", "ffn_div", "expert_choice_router", "parallel_block_tied_norm"]);
    for key in ["causal", "prenorm", "parallel_block", "use_rms_norm", "scale_attn_by_inverse_layer_idx"] {
        require(config, key, false)?;
    }
    for key in ["mlp_fc1_bias", "mlp_fc2_bias", "qkv_proj_bias", "rotary_emb_interleaved"] {
        require(config, key, false)?;
    }
    require(config, "scale_attn_weights", true)?;
    if config.str_or("activation_function", "swiglu")? != "swiglu" {
        return Err(config.invalid("activation_function", "swiglu"));
    }
    let factor = config.optional_f64("rotary_scaling_factor")?;
    Ok(config.with(json!({
        "hidden_size": config.usize("n_embd")?,
        "intermediate_size": config.usize("n_inner")?,
        "num_hidden_layers": config.layers("n_layer")?,
        "num_attention_heads": config.usize("n_head")?,
        "max_position_embeddings": config.usize("n_positions")?,
        "layer_norm_eps": config.f64_or("layer_norm_epsilon", 1e-12)?,
        "rope_theta": config.f64_or("rotary_emb_base", 1000.0)?,
        "partial_rotary_factor": config.f64_or("rotary_emb_fraction", 1.0)?,
        "rope_scaling": factor.map(|factor| json!({ "type": "dynamic", "factor": factor })),
    })))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = flash_names(spec.stacks[0].hidden_size, "attn");
    modules(&mut stack, "{prefix}encoder.layers.{layer}.mlp.", &[(MlpUp, "fc11"), (MlpGate, "fc12")]);
    let mut map =
        WeightMap { prefixes: vec!["nomic_bert.", "bert.", ""], stacks: vec![stack], ..WeightMap::default() };
    let head = [(HeadDense, "dense"), (HeadNorm, "layer_norm")];
    modules(&mut map.head, "cls.predictions.transform.", &head);
    decoder_of_masked(&mut map, config.bool_or("tie_word_embeddings", true)?, "cls.predictions.");
    map.ignored.extend(["{prefix}pooler.*", "classifier.*"].map(String::from));
    Ok(map)
}

/// The names of the BERT that came with FlashAttention, but for the inputs of MLPs. Attention is called `mixer`.
pub(super) fn flash_names(hidden: usize, mixer: &str) -> StackMap {
    use TensorRole::*;
    const LAYER: &str = "{prefix}encoder.layers.{layer}.";
    let mut stack = StackMap::default();
    let embedding = [
        (TokenEmbedding, "embeddings.word_embeddings"),
        (TokenTypeEmbedding, "embeddings.token_type_embeddings"),
        (EmbeddingNorm, "emb_ln"),
    ];
    modules(&mut stack, "{prefix}", &embedding);
    modules(&mut stack, LAYER, &[(MixerNorm, "norm1"), (MlpDown, "mlp.fc2"), (FfnNorm, "norm2")]);
    stack.module(AttnOut, &format!("{LAYER}{mixer}.out_proj"));
    Fused::new(&format!("{LAYER}{mixer}.Wqkv"))
        .split(&mut stack, &[(AttnQ, hidden), (AttnK, hidden), (AttnV, hidden)]);
    stack
}
