//! Gemma 3n's language model (Gemma Team 2025): Gemma 3 with several residual streams and an augmented residual
//! (`AltUpSpec` of sli-core), a vector per token and layer, gates that are mostly cut off in the first layers, and last
//! layers that use the keys and values of earlier ones. Norms store their weight as it is.

use serde_json::json;
use sli_core::{
    AltUpSpec, Family, Ffn, KeyValues, LayerInputSpec, LayerInputs, Mask, Mixer, ModelSpec, NormKind,
    NormSpec, Residual, Result, SparseMlpSpec, StackMap, Streams, TensorRole, WeightMap,
};

use super::multimodal::{text, with_head, within};
use super::{gemma3, llama};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, layers};
use crate::config::HfConfig;
use crate::maps::{head_norms, modules};
use crate::quantile::normal_quantile;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gemma3n",
    family: Family::Gemma,
    model_types: &["gemma3n", "gemma3n_text"],
    architectures: &[
        "Gemma3nForConditionalGeneration",
        "Gemma3nForCausalLM",
        "Gemma3nModel",
        "Gemma3nTextModel",
    ],
    known_models: &[
        KnownModel::new("Gemma-3n-E2B", "google/gemma-3n-E2B-it", "text only"),
        KnownModel::new("Gemma-3n-E4B", "google/gemma-3n-E4B-it", "text only"),
    ],
    spec,
    weights,
};

/// The most streams that make sense: coefficients are their square.
const MAX_STREAMS: usize = 64;

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    config.ignore(&["boi_token_id", "eoi_token_id", "boa_token_id", "eoa_token_id"]);
    config.ignore(&["audio_soft_tokens_per_image", "vision_soft_tokens_per_image"]);
    let config = &with_class_defaults(&text(config)?);
    // What acts in training only.
    config.ignore(&["altup_coef_clip", "altup_lr_multiplier"]);
    if config.count_or("altup_active_idx", 0)? != 0 {
        return Err(config.invalid("altup_active_idx", "0"));
    }
    let widths = mlp_widths(config)?;
    let uniform = json!({ "intermediate_size": widths[0], "query_pre_attn_scalar": 1.0 });
    let mut spec = with_head(gemma3::spec(&config.with(uniform))?)?;
    let softcap = config.optional_f64("final_logit_softcapping")?;
    if let Some(head) = &mut spec.head {
        head.softcap = softcap;
    }
    let sparsity = sparsity(config, widths.len())?;
    let streams = config.usize("altup_num_inputs")?;
    if !(2..=MAX_STREAMS).contains(&streams) {
        return Err(config.invalid("altup_num_inputs", &format!("from 2 to {MAX_STREAMS}")));
    }
    let input_width = config.usize("hidden_size_per_layer_input")?;
    let (scaled, laurel_rank) = (config.bool_or("altup_correct_scale", true)?, config.usize("laurel_rank")?);
    for (layer, block) in layers(&mut spec) {
        let Some(Ffn::GatedMlp(mlp)) = &mut block.ffn else { continue };
        mlp.intermediate_size = widths[layer];
        let input = LayerInputSpec { width: input_width, activation: mlp.activation };
        block.residual = Residual::AltUp(AltUpSpec { streams, scaled, laurel_rank, input });
        if sparsity[layer] > 0.0 {
            let cutoff = normal_quantile(sparsity[layer]);
            block.ffn = Some(Ffn::SparseGatedMlp(SparseMlpSpec { mlp: *mlp, cutoff }));
        }
    }
    attentions(&mut spec).for_each(|(_, attention)| attention.scale = 1.0);
    norm_values(&mut spec);
    share_key_values(&mut spec, config)?;
    add_layer_inputs(&mut spec, config, input_width)?;
    spec.stacks[0].embedding.streams = Some(Streams::Projected { count: streams });
    Ok(spec)
}

fn with_class_defaults(text: &HfConfig) -> HfConfig {
    text.with_defaults(json!({
        "vocab_size": 262_400, "hidden_size": 2048, "intermediate_size": 16_384, "num_hidden_layers": 35,
        "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 32_768,
        "sliding_window": 512, "sliding_window_pattern": 5, "final_logit_softcapping": 30.0,
        "vocab_size_per_layer_input": 262_144, "hidden_size_per_layer_input": 256, "altup_num_inputs": 4,
        "num_kv_shared_layers": 15, "laurel_rank": 64
    }))
}

/// One width for all layers, or one for each.
fn mlp_widths(config: &HfConfig) -> Result<Vec<usize>> {
    const KEY: &str = "intermediate_size";
    let num_layers = config.layers("num_hidden_layers")?;
    if let Ok(width) = config.usize(KEY) {
        return Ok(vec![width; num_layers]);
    }
    let widths = config.usizes(KEY)?.filter(|widths| widths.len() == num_layers && !widths.contains(&0));
    widths.ok_or_else(|| config.invalid(KEY, "a width, or one for each layer"))
}

/// Which share of each layer's gates is cut off: as the config says, else 95 % in the first ten layers.
fn sparsity(config: &HfConfig, num_layers: usize) -> Result<Vec<f64>> {
    const KEY: &str = "activation_sparsity_pattern";
    const SPARSE_LAYERS: usize = 10;
    let share = |layer| if num_layers > SPARSE_LAYERS && layer < SPARSE_LAYERS { 0.95 } else { 0.0 };
    let Some(given) = config.f64s(KEY)? else { return Ok((0..num_layers).map(share).collect()) };
    if given.len() != num_layers || !given.iter().all(|share| (0.0..1.0).contains(share)) {
        return Err(config.invalid(KEY, "a share from 0 to less than 1 for each layer"));
    }
    Ok(given)
}

/// Values normed like the heads of queries and keys, without a weight.
pub(super) fn norm_values(spec: &mut ModelSpec) {
    for (_, block) in layers(spec) {
        let norm = NormSpec { kind: NormKind::RmsUnweighted, ..block.norm };
        if let Mixer::Attention(attention) = &mut block.mixer {
            attention.key_values = KeyValues::NormedValues { norm, from_keys: false, kept: None };
        }
    }
}

/// The last `num_kv_shared_layers` use the keys and values of the last layer of their kind before them.
pub(super) fn share_key_values(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    const KEY: &str = "num_kv_shared_layers";
    let shared = config.count_or(KEY, 0)?;
    if shared == 0 {
        return Ok(());
    }
    let first = spec.num_layers().checked_sub(shared).filter(|first| *first > 0);
    let first = first.ok_or_else(|| config.invalid(KEY, "fewer than there are layers"))?;
    let sliding: Vec<_> =
        attentions(spec).map(|(_, attention)| matches!(attention.mask, Mask::Sliding { .. })).collect();
    let slot = |layer: usize| u32::from(!sliding[layer]);
    let mut keeps = [None; 2];
    (0..first).for_each(|layer| keeps[slot(layer) as usize] = Some(layer));
    for (layer, attention) in attentions(spec) {
        let slot = slot(layer);
        if layer >= first {
            if keeps[slot as usize].is_none() {
                return Err(config.invalid(KEY, "few enough that a layer of each kind comes before"));
            }
            attention.key_values = KeyValues::Reused { slot };
        } else if let (true, KeyValues::NormedValues { kept, .. }) =
            (keeps[slot as usize] == Some(layer), &mut attention.key_values)
        {
            *kept = Some(slot);
        }
    }
    Ok(())
}

/// A second table of tokens, for the vectors of all layers.
pub(super) fn add_layer_inputs(spec: &mut ModelSpec, config: &HfConfig, width: usize) -> Result<()> {
    let norm = spec.stacks[0].layers[0].norm;
    let (vocab_size, layers) = (config.usize("vocab_size_per_layer_input")?, spec.num_layers());
    spec.stacks[0].embedding.layer_inputs = Some(LayerInputs { vocab_size, layers, width, norm });
    Ok(())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    let mut map = within_gemma(config, spec)?;
    let stack = &mut map.stacks[0];
    let streams =
        [(StreamIn(0), "altup_projections.{expert}"), (StreamOut(0), "altup_unembed_projections.{expert}")];
    modules(stack, "{prefix}", &streams);
    let names = [
        (AltUpRouterNorm, "altup.router_norm"),
        (AltUpRouter, "altup.modality_router"),
        (AltUpPredict, "altup.prediction_coefs"),
        (AltUpCorrect, "altup.correction_coefs"),
        (LaurelLeft, "laurel.linear_left"),
        (LaurelRight, "laurel.linear_right"),
        (LaurelNorm, "laurel.post_laurel_norm"),
    ];
    modules(stack, "{prefix}layers.{layer}.", &names);
    stack.tensor(AltUpScale.weight(), &["{prefix}layers.{layer}.altup.correct_output_scale"], &[]);
    Ok(map)
}

/// The weights that Gemma 3n and Gemma 4 have in common, where they lie beside the towers.
pub(super) fn within_gemma(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    const TOWERS: &[&str] =
        &["model.vision_tower.*", "model.audio_tower.*", "model.embed_vision.*", "model.embed_audio.*"];
    let tied = config.with_defaults(json!({ "tie_word_embeddings": true }));
    let mut map = within(&tied, &llama::ARCHITECTURE, spec, TOWERS)?;
    gemma_names(&mut map.stacks[0]);
    // Layers that share keys and values store projections of their own all the same.
    for (layer, block) in spec.stacks[0].layers.iter().enumerate() {
        let Mixer::Attention(attention) = &block.mixer else { continue };
        if !attention.key_values.has_keys() {
            let unused = ["k_proj", "v_proj", "k_norm", "v_norm"];
            let name = |module| format!("{{prefix}}layers.{layer}.self_attn.{module}.weight");
            map.ignored.extend(unused.map(name));
        }
    }
    Ok(map)
}

fn gemma_names(stack: &mut StackMap) {
    use TensorRole::*;
    let outside = [
        (LayerInputTable, "embed_tokens_per_layer"),
        (LayerInputProjection, "per_layer_model_projection"),
        (LayerInputNorm, "per_layer_projection_norm"),
    ];
    modules(stack, "{prefix}", &outside);
    let names = [
        (MixerOutNorm, "post_attention_layernorm"),
        (FfnNorm, "pre_feedforward_layernorm"),
        (FfnOutNorm, "post_feedforward_layernorm"),
        (LayerInputDown, "per_layer_input_gate"),
        (LayerInputUp, "per_layer_projection"),
        (LayerInputOutNorm, "post_per_layer_input_norm"),
    ];
    modules(stack, "{prefix}layers.{layer}.", &names);
    head_norms(stack);
}
