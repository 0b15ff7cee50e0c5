//! ModernBERT (Warner et al. 2024): norms before each branch, gated MLPs, rotations, and a window on either side in all
//! layers but some. The first layer takes the embedding's norm for its own.

use serde_json::json;
use sli_core::{
    Family, Ffn, LoadOp, Mask, ModelSpec, NormKind, PositionSpec, ProjectionBias, Residual, Result,
    RopeScaling, RopeSpec, StackMap, TensorRole, WeightMap,
};

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{activation, attentions, layers, norm_before, rotate};
use crate::config::HfConfig;
use crate::maps::{Fused, lm_head, modules};
use crate::rope::rope_of_type;
use crate::windows::sliding_layers;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "modernbert",
    family: Family::Encoder,
    model_types: &["modernbert"],
    architectures: &["ModernBertForMaskedLM", "ModernBertModel"],
    known_models: &[KnownModel::new(
        "ModernBERT-large",
        "answerdotai/ModernBERT-large",
        "windows of 64 on either side, but for every third layer",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Kernels, a shortcut of the loss, other tasks, and the norm's epsilon under BERT's name.
    config.ignore(&["deterministic_flash_attn", "reference_compile", "repad_logits_with_grad"]);
    config.ignore(&["sparse_prediction", "sparse_pred_ignore_index", "initializer_cutoff_factor"]);
    config.ignore(&["classifier_pooling", "mlp_dropout", "layer_norm_eps"]);
    let eps = config.f64_or("norm_eps", 1e-5)?;
    let hidden_act = config.str_or("hidden_activation", "gelu")?;
    let as_bert = config.with(json!({ "layer_norm_eps": eps, "hidden_act": hidden_act }));
    let mut spec = bert::spec(&as_bert)?;
    norm_before(&mut spec);
    let stack = &mut spec.stacks[0];
    stack.embedding.norm = stack.final_norm;
    stack.embedding.token_types = None;
    if let Some(head) = &mut spec.head {
        head.bias = config.bool_or("decoder_bias", true)?;
        if let Some(transform) = &mut head.transform {
            transform.activation = activation(config, "classifier_activation", "gelu")?;
            transform.bias = config.bool_or("classifier_bias", false)?;
        }
    }
    let mlp_bias = config.bool_or("mlp_bias", false)?;
    for (layer, block) in layers(&mut spec) {
        if let Some(Ffn::Mlp(mut mlp)) = block.ffn {
            mlp.bias = mlp_bias;
            block.ffn = Some(Ffn::GatedMlp(mlp));
        }
        if layer == 0 {
            block.residual = Residual::PreNormFfn;
        }
    }
    if !config.bool_or("norm_bias", false)? {
        unbias_norms(&mut spec);
    }
    let bias = ProjectionBias::all(config.bool_or("attention_bias", false)?);
    attentions(&mut spec).for_each(|(_, attention)| attention.bias = bias);
    look_around(&mut spec, config)?;
    Ok(spec)
}

fn unbias_norms(spec: &mut ModelSpec) {
    let transform = spec.head.as_mut().and_then(|head| head.transform.as_mut());
    let stack = &mut spec.stacks[0];
    let outer =
        [stack.embedding.norm.as_mut(), stack.final_norm.as_mut(), transform.and_then(|t| t.norm.as_mut())];
    let blocks = stack.layers.iter_mut().map(|block| &mut block.norm);
    blocks.chain(outer.into_iter().flatten()).for_each(|norm| norm.kind = NormKind::LayerUnbiased);
}

/// Windows and rotations: layers with a window have a base of their own.
fn look_around(spec: &mut ModelSpec, config: &HfConfig) -> Result<()> {
    let global = config.f64_or("global_rope_theta", 160_000.0)?;
    let local = config.f64_or("local_rope_theta", 10_000.0)?;
    let reach = config.usize_or("local_attention", 128)? / 2;
    let every = config.usize_or("global_attn_every_n_layers", 3)?;
    let sliding = sliding_layers(config, spec.num_layers(), |layer| !layer.is_multiple_of(every))?;
    rotate(spec, config)?;
    for (layer, attention) in attentions(spec) {
        let (kind, theta) =
            if sliding[layer] { ("sliding_attention", local) } else { ("full_attention", global) };
        let plain = RopeSpec { theta, rotary_dim: attention.head_dim, scaling: RopeScaling::None };
        let rope = rope_of_type(config, kind, attention.head_dim)?.unwrap_or(plain);
        attention.position = PositionSpec::Rope(rope);
        if sliding[layer] {
            attention.mask = Mask::BidirectionalSliding { reach };
        }
    }
    Ok(())
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    const LAYER: &str = "{prefix}layers.{layer}.";
    let hidden = spec.stacks[0].hidden_size;
    let inner = config.usize("intermediate_size")?;
    let mut stack = StackMap::default();
    let outer = [
        (TokenEmbedding, "embeddings.tok_embeddings"),
        (EmbeddingNorm, "embeddings.norm"),
        (FinalNorm, "final_norm"),
    ];
    modules(&mut stack, "{prefix}", &outer);
    let layer = [(MixerNorm, "attn_norm"), (AttnOut, "attn.Wo"), (FfnNorm, "mlp_norm"), (MlpDown, "mlp.Wo")];
    modules(&mut stack, LAYER, &layer);
    Fused::new("{prefix}layers.{layer}.attn.Wqkv")
        .split(&mut stack, &[(AttnQ, hidden), (AttnK, hidden), (AttnV, hidden)]);
    for (role, start) in [(MlpGate, 0), (MlpUp, inner)] {
        let rows = LoadOp::TakeRows { groups: 1, block: 2 * inner, start };
        stack.module_with(role, &format!("{LAYER}mlp.Wi"), &[rows]);
    }
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks: vec![stack], ..WeightMap::default() };
    modules(&mut map.head, "head.", &[(HeadDense, "dense"), (HeadNorm, "norm")]);
    map.head.tensor(LmHead.bias(), &["decoder.bias"], &[]);
    let tied = config.bool_or("tie_word_embeddings", true)?;
    lm_head(&mut map, tied, &["{prefix}embeddings.tok_embeddings.weight"], "decoder.weight");
    map.ignored.push("classifier.*".into());
    Ok(map)
}
