//! OLMo Hybrid (OLMo Team 2026): three layers of linear attention with a gated delta rule for each of OLMo 3's, the
//! former with norms before their branches, the latter after them.

use serde_json::json;
use sli_core::{Family, Mixer, ModelSpec, NormSpec, PositionSpec, Residual, Result, TensorRole, WeightMap};

use super::{llama, olmo2};
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, layers};
use crate::config::HfConfig;
use crate::delta::{attend_linearly, decay_parameters, delta_net, delta_of, fused_convolutions};
use crate::layer_types::layers_of_type;
use crate::maps::modules;
use crate::windows::all_but_every;

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "olmo_hybrid",
    family: Family::Llama,
    model_types: &["olmo_hybrid"],
    architectures: &["OlmoHybridForCausalLM", "OlmoHybridModel"],
    known_models: &[KnownModel::new(
        "OLMo-Hybrid-7B",
        "allenai/Olmo-Hybrid-7B",
        "delta rule in three of four layers, no rotations",
    )],
    spec,
    weights,
};

/// Of the heads that the delta rule reads, whatever the config says of the other norms.
const READ_NORM_EPS: f64 = 1e-5;

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // Initial values.
    config.ignore(&["linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max"]);
    config.ignore(&["linear_dt_init_floor"]);
    let mut spec = llama::spec(config)?;
    olmo2::norm_projections_and_branches(&mut spec);
    if is_unrotated(config)? {
        attentions(&mut spec).for_each(|(_, attention)| attention.position = PositionSpec::None);
    }
    let num_layers = spec.num_layers();
    // A model of few layers has attention in its last one.
    let otherwise = |layer: usize| all_but_every(4)(layer) && !(num_layers < 4 && layer + 1 == num_layers);
    let linear = layers_of_type(config, num_layers, "linear_attention", otherwise)?;
    let mut delta = delta_net(&with_class_defaults(config)?, NormSpec::rms(READ_NORM_EPS))?;
    if config.bool_or("linear_allow_neg_eigval", true)? {
        delta.write_scale = 2.0;
    }
    attend_linearly(&mut spec, &linear, delta);
    for (_, block) in layers(&mut spec) {
        if let Mixer::DeltaNet(_) = block.mixer {
            block.residual = Residual::PreNorm;
        }
    }
    Ok(spec)
}

/// The sizes of the delta rule follow from those of attention, where none are given.
fn with_class_defaults(config: &HfConfig) -> Result<HfConfig> {
    const KEY_DIM: &str = "linear_key_head_dim";
    let heads = config.usize("num_attention_heads")?;
    let given = |key: &str, otherwise: usize| config.usize_or(key, otherwise);
    let key_heads = given("linear_num_key_heads", heads)?;
    let key_dim = given(KEY_DIM, (0.75 * config.usize("hidden_size")? as f64 / key_heads as f64) as usize)?;
    Ok(config.with(json!({
        "linear_num_key_heads": key_heads,
        "linear_num_value_heads": given("linear_num_value_heads", heads)?,
        KEY_DIM: key_dim,
        "linear_value_head_dim": given("linear_value_head_dim", 2 * key_dim)?,
    })))
}

/// Is there nothing where the rotation or its base is said? The first release has the one, later ones have the other.
/// (Recent versions of transformers take the first for the usual base, with which the model was not trained.)
fn is_unrotated(config: &HfConfig) -> Result<bool> {
    const KEY: &str = "rope_theta";
    Ok(match config.section("rope_parameters")? {
        Some(section) => section.is_null(KEY),
        None => config.is_null(KEY) || config.is_null("rope_parameters"),
    })
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::*;
    const LAYER: &str = "{prefix}layers.{layer}.";
    const LINEAR: &str = "{prefix}layers.{layer}.linear_attn.";
    let mut map = olmo2::weights(config, spec)?;
    let stack = &mut map.stacks[0];
    // Names of the release and of transformers, which writes those of the release also where they belong to others.
    for (role, names) in [
        (MixerNorm, ["attention_layer_norm", "input_layernorm"]),
        (FfnNorm, ["feedforward_layer_norm", "post_attention_layernorm"]),
        (MixerOutNorm, ["post_attention_layernorm", "feedforward_layer_norm"]),
    ] {
        let names = names.map(|name| format!("{LAYER}{name}.weight"));
        stack.tensor(role.weight(), &[&names[0], &names[1]], &[]);
    }
    let names = [
        (DeltaQ, "q_proj"),
        (DeltaK, "k_proj"),
        (DeltaV, "v_proj"),
        (DeltaDecay, "a_proj"),
        (DeltaWrite, "b_proj"),
        (DeltaGate, "g_proj"),
        (DeltaNorm, "o_norm"),
        (DeltaOut, "o_proj"),
    ];
    modules(stack, LINEAR, &names);
    decay_parameters(stack, LINEAR, &[]);
    if let Some(delta) = delta_of(spec) {
        // Transformers joins the three and writes thirds of the whole.
        let names = ["q", "k", "v"].map(|part| format!("{LINEAR}{part}_conv1d.weight"));
        fused_convolutions(stack, &names.each_ref().map(String::as_str), delta);
    }
    map.ignored.push("mtp.*".into());
    Ok(map)
}
