//! DeBERTa-v2 and v3 (He et al. 2021, 2023): DeBERTa with a projection each for queries, keys and values, buckets of
//! distances, which the same may project, and perhaps a convolution beside the first layer.

use sli_core::{
    CentredConvolution, Family, LoadOp, ModelSpec, NormSpec, PositionProjections, Residual, Result,
    TensorRole, WeightMap,
};

use super::deberta::{Distances, max_distance, shared_weights, with_distances};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{activation, attentions};
use crate::config::HfConfig;
use crate::maps::modules;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "deberta_v2",
    family: Family::Encoder,
    model_types: &["deberta-v2"],
    architectures: &["DebertaV2ForMaskedLM", "DebertaV2Model"],
    known_models: &[
        KnownModel::new(
            "DeBERTa-v2-xlarge",
            "microsoft/deberta-v2-xlarge",
            "a convolution beside the first layer",
        ),
        KnownModel::new(
            "DeBERTa-v2-xxlarge",
            "microsoft/deberta-v2-xxlarge",
            "a convolution beside the first layer",
        ),
        KnownModel::new("DeBERTa-v3-base/large", "microsoft/deberta-v3-base", ""),
        KnownModel::new("mDeBERTa-v3-base", "microsoft/mdeberta-v3-base", ""),
    ],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let distance = max_distance(config)?;
    let buckets = config.optional_index("position_buckets")?.filter(|buckets| *buckets > 0);
    let mut spec = with_distances(
        config,
        Distances {
            reach: buckets.unwrap_or(distance),
            max_distance: buckets.map(|_| distance),
            norm: norm_of_distances(config)?,
            projections: match config.bool_or("share_att_key", false)? {
                true => PositionProjections::Shared,
                false => PositionProjections::Own { key_bias: true },
            },
        },
    )?;
    for (_, attention) in attentions(&mut spec) {
        if config.usize_or("attention_head_size", attention.head_dim)? != attention.head_dim {
            return Err(config.invalid("attention_head_size", "the hidden size shared out over the heads"));
        }
    }
    if let Some(convolution) = convolution(config)? {
        spec.stacks[0].layers[0].residual = Residual::ConvolvedPostNorm(convolution);
    }
    Ok(spec)
}

fn norm_of_distances(config: &HfConfig) -> Result<Option<NormSpec>> {
    match &*config.str_or("norm_rel_ebd", "none")?.to_lowercase() {
        "none" => Ok(None),
        "layer_norm" => Ok(Some(NormSpec::layer(config.f64_or("layer_norm_eps", 1e-7)?))),
        _ => Err(config.invalid("norm_rel_ebd", "'layer_norm' or 'none'")),
    }
}

/// What is beside the first layer.
fn convolution(config: &HfConfig) -> Result<Option<CentredConvolution>> {
    let (width, groups) = (config.count_or("conv_kernel_size", 0)?, config.usize_or("conv_groups", 1)?);
    let activation = activation(config, "conv_act", "tanh")?;
    if groups != 1 {
        return Err(config.invalid("conv_groups", "1: a convolution of all channels"));
    }
    Ok((width > 0).then_some(CentredConvolution { width, activation }))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnQ, AttnV, DistanceK, DistanceNorm, DistanceQ, InputConv, InputConvNorm};
    let mut map = shared_weights(config, spec)?;
    let stack = &mut map.stacks[0];
    let projections = [
        (AttnQ, "query_proj"),
        (AttnK, "key_proj"),
        (AttnV, "value_proj"),
        (DistanceK, "pos_key_proj"),
        (DistanceQ, "pos_query_proj"),
    ];
    modules(stack, "{prefix}encoder.layer.{layer}.attention.self.", &projections);
    stack.pinned(DistanceNorm.weight(), "{prefix}encoder.LayerNorm.weight");
    stack.pinned(DistanceNorm.bias(), "{prefix}encoder.LayerNorm.bias");
    if let Some(CentredConvolution { width, .. }) = convolution(config)? {
        let taps = [LoadOp::JoinLast { size: width }];
        stack.module_with(InputConv, "{prefix}encoder.conv.conv", &taps);
        stack.module(InputConvNorm, "{prefix}encoder.conv.LayerNorm");
    }
    Ok(map)
}
