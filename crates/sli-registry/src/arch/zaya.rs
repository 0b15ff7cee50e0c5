//! ZAYA (Zyphra 2025): attention over convolved queries and keys, and one of a few experts, or none, for each token, chosen
//! by a small network that remembers what it saw in the layer before.

use serde_json::json;
use sli_core::{
    AttentionSpec, ConvolvedAttentionSpec, Family, Ffn, LoadOp, Mask, Mixer, ModelSpec, PositionSpec,
    Residual, Result, RouterNetwork, RouterSpec, StackMap, TensorRole, WeightMap,
};

use super::llama;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::layers;
use crate::config::HfConfig;
use crate::experts::{Fusion, experts_of, fused_experts, gated_experts};
use crate::maps::modules;
use crate::rope::{rope, rope_of_type};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "zaya",
    family: Family::Moe,
    model_types: &["zaya"],
    architectures: &["ZayaForCausalLM", "ZayaModel"],
    known_models: &[KnownModel::new("ZAYA1-8B", "Zyphra/ZAYA1-8B", "1 of 16 experts, or none")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // There are no dense layers. Released configs have a type beside the rotations of each kind of layer.
    config.ignore(&["intermediate_size", "rope_parameters.rope_type"]);
    let config = &config
        .with(json!({ "intermediate_size": config.usize_or("moe_intermediate_size", 2048)? }))
        .with_defaults(json!({ "head_dim": 128, "num_key_value_heads": 2, "rms_norm_eps": 1e-5 }));
    let mut spec = llama::spec(config)?;
    spec.stacks[0].embedding.stretched = true;
    let bias = config.bool_or("lm_head_bias", false)?;
    if let Some(head) = &mut spec.head {
        head.bias = bias;
    }
    let num_experts = config.usize_or("num_experts", 16)?;
    let top_k = config.usize_or("num_experts_per_tok", 1)?;
    let width = config.usize_or("router_hidden_size", 256)?;
    let (channel_width, head_width) = (config.usize_or("cca_time0", 2)?, config.usize_or("cca_time1", 2)?);
    let kinds = Kinds::read(config, spec.num_layers())?;
    for (layer, block) in layers(&mut spec) {
        if let Mixer::Attention(attention) = &block.mixer {
            let attention = kinds.placed(layer, attention.clone(), config)?;
            block.mixer =
                Mixer::ConvolvedAttention(ConvolvedAttentionSpec { attention, channel_width, head_width });
        }
        if let Some(Ffn::GatedMlp(mlp)) = block.ffn {
            let network = RouterNetwork { width, norm: block.norm, adds_previous: layer > 0 };
            let router = RouterSpec {
                correction: true,
                null_experts: 1,
                network: Some(network),
                ..RouterSpec::softmax(top_k, false)
            };
            block.ffn = Some(Ffn::Moe(gated_experts(num_experts, router, mlp, mlp.intermediate_size)));
        }
        block.residual = Residual::StretchedPreNorm;
    }
    Ok(spec)
}

/// Which layers see a window of keys only, and how those and the others are rotated.
struct Kinds {
    slides: Vec<bool>,
    /// Of layers that see all keys, and of the others.
    positions: [PositionSpec; 2],
}

impl Kinds {
    fn read(config: &HfConfig, num_layers: usize) -> Result<Self> {
        const EXPECTED: &str = "hybrid or hybrid_sliding for each layer";
        let types = config.strs("layer_types")?.unwrap_or_else(|| vec!["hybrid".into(); num_layers]);
        if types.len() != num_layers || types.iter().any(|kind| !kind.starts_with("hybrid")) {
            return Err(config.invalid("layer_types", EXPECTED));
        }
        let slides = types.iter().map(|kind| match kind.as_str() {
            "hybrid" => Ok(false),
            "hybrid_sliding" => Ok(true),
            _ => Err(config.invalid("layer_types", EXPECTED)),
        });
        let head_dim = config.usize("head_dim")?;
        let position = |kind: &str, theta: f64| {
            let otherwise = json!({ "rope_theta": theta, "partial_rotary_factor": 0.5 });
            let rope = match rope_of_type(config, kind, head_dim)? {
                Some(rope) => rope,
                None => rope(&config.with_defaults(otherwise), head_dim)?,
            };
            Ok::<_, sli_core::SliError>(PositionSpec::Rope(rope))
        };
        let positions = [position("hybrid", 5e6)?, position("hybrid_sliding", 1e4)?];
        Ok(Self { slides: slides.collect::<Result<_>>()?, positions })
    }

    fn placed(&self, layer: usize, attention: AttentionSpec, config: &HfConfig) -> Result<AttentionSpec> {
        let window = config.optional_usize("sliding_window")?;
        let mask = match (self.slides[layer], window) {
            (false, _) => Mask::Causal,
            (true, Some(window)) => Mask::Sliding { window },
            (true, None) => return Err(config.invalid("sliding_window", "the window of some layers")),
        };
        let position = self.positions[usize::from(self.slides[layer])].clone();
        Ok(AttentionSpec { mask, position, ..attention })
    }
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    const LAYER: &str = "{prefix}layers.{layer}.";
    let mut map = llama::weights(&config.with_defaults(json!({ "tie_word_embeddings": true })), spec)?;
    map.head.tensor(LmHead.bias(), &["lm_head.bias"], &[]);
    let stack = &mut map.stacks[0];
    let projections = [
        (AttnQ, "q_proj"),
        (AttnK, "k_proj"),
        (AttnV, "v_proj_current"),
        (AttnVBefore, "v_proj_delayed"),
        (HeadTaps, "conv_qk_grouped"),
    ];
    modules(stack, &format!("{LAYER}self_attn.qkv_proj."), &projections);
    let depthwise = format!("{LAYER}self_attn.qkv_proj.conv_qk_depthwise");
    stack.module_with(ChannelTaps, &depthwise, &[LoadOp::DropAxis(1)]);
    stack.tensor(AttnKScale.weight(), &[&format!("{LAYER}self_attn.qk_norm.temp")], &[]);
    stretch(stack, EmbeddingStretch, "{prefix}input_hidden_states");
    for (of_branch, of_past, name) in [
        (MixerStretch, MixerPastStretch, "post_attention_residual_scale"),
        (FfnStretch, FfnPastStretch, "post_mlp_residual_scale"),
    ] {
        stretch(stack, of_branch, &format!("{LAYER}{name}.hidden_states"));
        stretch(stack, of_past, &format!("{LAYER}{name}.residual"));
    }
    let router = [
        (RouterDown, "down_proj"),
        (RouterNorm, "router_mlp.norm"),
        (RouterFirst, "router_mlp.fc1"),
        (RouterSecond, "router_mlp.fc2"),
        (Router, "router_mlp.out_proj"),
    ];
    modules(stack, &format!("{LAYER}mlp.gate."), &router);
    stack.tensor(RouterCorrection.weight(), &[&format!("{LAYER}mlp.gate.balancing_biases")], &[]);
    stack.tensor(RouterPrevious.weight(), &[&format!("{LAYER}mlp.gate.router_states_scale")], &[]);
    if let Some(moe) = experts_of(spec) {
        let names = ["gate_up_proj", "down_proj"].map(|name| format!("{LAYER}mlp.experts.{name}"));
        fused_experts(stack, moe, Fusion::Rows, &names[0], &names[1]);
    }
    Ok(map)
}

/// A pair of vectors `NAME_scale` and `NAME_bias`.
fn stretch(map: &mut StackMap, role: TensorRole, name: &str) {
    map.tensor(role.weight(), &[&format!("{name}_scale")], &[]);
    map.tensor(role.bias(), &[&format!("{name}_bias")], &[]);
}
