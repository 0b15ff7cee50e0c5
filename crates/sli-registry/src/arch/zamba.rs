//! Zamba (Zyphra 2024): Mamba's mixer in each layer, with two heads that select by themselves, and in some layers a block
//! of attention before it, whose weights all of these share, and which sees the embedding again.

use sli_core::{
    AdapterSpec, AttentionSpec, BlockSpec, Family, InformedScanSpec, LoadOp, Mamba1Spec, Mask, Mixer,
    MlpSpec, ModelSpec, NormSpec, Residual, Result, StackKind, StackMap, StackSpec, TensorRole, WeightMap,
};

use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{activation, model, multi_head, plain_head, share_per_head, token_embedding};
use crate::config::HfConfig;
use crate::layer_types::layers_of_kind;
use crate::maps::{lm_head, modules};
use crate::ssm::{mamba1_names, mamba1_of_hybrid};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "zamba",
    family: Family::Mamba,
    model_types: &["zamba"],
    architectures: &["ZambaForCausalLM", "ZambaModel"],
    known_models: &[KnownModel::new("Zamba-7B-v1", "Zyphra/Zamba-7B-v1", "one block of attention, 13 times")],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    let hidden_size = config.usize("hidden_size")?;
    config.ignore(&["rope_theta"]); // released configs have one, and nothing is rotated
    let num_layers = config.layers("num_hidden_layers")?;
    let (period, offset) =
        (config.usize_or("attn_layer_period", 6)?, config.count_or("attn_layer_offset", 4)?);
    // The third layer, and then one in each period.
    let attends = |layer: usize| layer == 2 || (layer > 2 && (layer - 3) % period == offset);
    let informed = informed_layers(config, num_layers, attends)?;

    let num_heads = config.usize_or("num_attention_heads", 16)?;
    let joint = config.usize_or("attention_hidden_size", 2 * hidden_size)?;
    if joint != 2 * hidden_size {
        return Err(config.invalid("attention_hidden_size", "twice the hidden size"));
    }
    let head_dim = match config.optional_usize("attention_head_dim")? {
        Some(head_dim) => head_dim,
        None => share_per_head(config, joint, num_heads)?,
    };
    let mut attention = joint_attention(num_heads, head_dim);
    attention.num_kv_heads = config.usize_or("num_key_value_heads", 16)?;
    let mlp = MlpSpec {
        intermediate_size: config.usize_or("intermediate_size", 14_848)?,
        activation: activation(config, "hidden_act", "gelu")?,
        bias: false,
    };
    let scan = Mamba1Spec {
        num_heads: config.usize_or("n_mamba_heads", 2)?,
        ..mamba1_of_hybrid(config, hidden_size, "hidden_mamba_act")?
    };
    let block = Block { attention, mlp, adapters: None, scan: Mixer::Mamba1(scan) };
    hybrid(config, &informed, &block)
}

/// What the layers of a hybrid are made of.
pub(super) struct Block {
    pub(super) attention: AttentionSpec,
    pub(super) mlp: MlpSpec,
    pub(super) adapters: Option<AdapterSpec>,
    pub(super) scan: Mixer,
}

/// Attention over stream and embedding side by side, which make up heads of twice the width.
pub(super) fn joint_attention(num_heads: usize, head_dim: usize) -> AttentionSpec {
    let scale = (head_dim as f64 / 2.0).powf(-0.5);
    AttentionSpec { scale, ..multi_head(num_heads, head_dim, Mask::Causal, false) }
}

/// The layers with attention, of which there may be none.
pub(super) fn informed_layers(
    config: &HfConfig,
    num_layers: usize,
    otherwise: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    let key = config.first_of(&["layers_block_type", "layer_types"]);
    layers_of_kind(config, key, num_layers, [&["hybrid"], &["linear_attention", "mamba"]], otherwise)
}

/// A stack of scans, some of which are informed by attention.
pub(super) fn hybrid(config: &HfConfig, informed: &[bool], block: &Block) -> Result<ModelSpec> {
    // Initial values, how sums are computed, and which logits.
    config.ignore(&["time_step_min", "time_step_max", "time_step_floor", "use_mamba_kernels"]);
    config.ignore(&["use_associative_scan", "num_logits_to_keep", "max_position_embeddings"]);
    let vocab_size = config.usize("vocab_size")?;
    let norm = NormSpec::rms(config.f64_or("rms_norm_eps", 1e-5)?);
    let layer = |informed: &bool| {
        let (mixer, residual) = match informed {
            true => (
                Mixer::InformedScan(InformedScanSpec {
                    attention: block.attention.clone(),
                    mlp: block.mlp,
                    norm,
                    adapters: block.adapters,
                    scan: Box::new(block.scan.clone()),
                }),
                // It norms by itself what it sees.
                Residual::PreNormFfn,
            ),
            false => (block.scan.clone(), Residual::PreNorm),
        };
        BlockSpec { mixer, cross_attention: None, ffn: None, residual, norm }
    };
    let mut embedding = token_embedding(vocab_size);
    embedding.carried = informed.contains(&true);
    let stack = StackSpec {
        kind: StackKind::Decoder,
        hidden_size: config.usize("hidden_size")?,
        embedding,
        layers: informed.iter().map(layer).collect(),
        final_norm: Some(norm),
    };
    Ok(model(vec![stack], plain_head(config, vocab_size), None))
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{MlpDown, MlpGate, MlpUp, SsmALog, SsmD, SsmDt, SsmIn, SsmX};
    const MAMBA: &str = "{prefix}layers.{layer}.{scan}mamba.";
    const SHARED: &str = "{prefix}layers.{block}.shared_transf.";
    let mut map = hybrid_weights(config, spec, 1, "shared_transf.")?;
    let stack = &mut map.stacks[0];
    let names = [
        (MlpGate, "feed_forward.gate_proj"),
        (MlpUp, "feed_forward.up_proj"),
        (MlpDown, "feed_forward.down_proj"),
    ];
    modules(stack, SHARED, &names);
    pin_blocks(stack, config)?;
    mamba1_names(stack, MAMBA);
    let Some(scan) = scans(spec).find_map(|scan| match scan {
        Mixer::Mamba1(scan) => Some(scan),
        _ => None,
    }) else {
        return Ok(map);
    };
    // Input and gate take turns.
    let rows = 2 * scan.inner_size;
    stack.module_with(
        SsmIn,
        &format!("{MAMBA}in_proj"),
        &[LoadOp::UnpermuteRope { head_dim: rows, rotary_dim: rows }],
    );
    for (key, name) in [
        (SsmX(0).weight(), "x_proj_weight"),
        (SsmDt(0).weight(), "dt_proj_weight"),
        (SsmDt(0).bias(), "dt_proj_bias"),
        (SsmALog(0).weight(), "A_log"),
        (SsmD(0).weight(), "D"),
    ] {
        let of_head = LoadOp::SelectExpert { count: scan.num_heads };
        stack.tensor(key, &[&format!("{MAMBA}{name}")], &[of_head]);
    }
    Ok(map)
}

/// The scan of each layer.
fn scans(spec: &ModelSpec) -> impl Iterator<Item = &Mixer> {
    spec.stacks[0].layers.iter().map(|block| match &block.mixer {
        Mixer::InformedScan(informed) => &*informed.scan,
        scan => scan,
    })
}

/// Do layers share their blocks? Transformers ties these where it ties the head.
fn shares_blocks(config: &HfConfig) -> Result<bool> {
    config.bool_or("tie_word_embeddings", true)
}

/// What belongs to shared blocks, all of it mapped before, is read once.
pub(super) fn pin_blocks(stack: &mut StackMap, config: &HfConfig) -> Result<()> {
    if shares_blocks(config)? {
        stack.pin("{block}");
    }
    Ok(())
}

/// All but the scans and the MLPs. `{block}` stands for the layer under which a layer's block of attention is stored,
/// which is the first that has it of `num_blocks` taking turns where these are shared, `{use}` for how many such layers come before, and `{scan}`
/// for what a layer with attention has before the names of its scan.
pub(super) fn hybrid_weights(
    config: &HfConfig,
    spec: &ModelSpec,
    num_blocks: usize,
    shared: &str,
) -> Result<WeightMap> {
    use TensorRole::*;
    let mut stack = StackMap::default();
    stack.module(TokenEmbedding, "{prefix}embed_tokens").module(FinalNorm, "{prefix}final_layernorm");
    let names = [
        (JointNorm, "input_layernorm"),
        (AttnQ, "self_attn.q_proj"),
        (AttnK, "self_attn.k_proj"),
        (AttnV, "self_attn.v_proj"),
        (AttnOut, "self_attn.o_proj"),
        (JointFfnNorm, "pre_ff_layernorm"),
    ];
    modules(&mut stack, &format!("{{prefix}}layers.{{block}}.{shared}"), &names);
    modules(
        &mut stack,
        "{prefix}layers.{layer}.",
        &[(JointOut, "linear"), (MixerNorm, "{scan}input_layernorm")],
    );

    let is_informed = |layer: usize| matches!(spec.stacks[0].layers[layer].mixer, Mixer::InformedScan(_));
    let informed: Vec<usize> = (0..spec.num_layers()).filter(|layer| is_informed(*layer)).collect();
    let by_layer = |name: &dyn Fn(usize) -> String| {
        let of_layer = |layer| informed.iter().position(|other| *other == layer).map_or(String::new(), name);
        (0..spec.num_layers()).map(of_layer).collect::<Vec<_>>()
    };
    let tied = shares_blocks(config)?;
    let owner = |index: usize| if tied { informed[index % num_blocks] } else { informed[index] };
    stack.name_layers("{block}", by_layer(&|index| owner(index).to_string()));
    stack.name_layers("{use}", by_layer(&|index| index.to_string()));
    stack.name_layers("{scan}", by_layer(&|_| "mamba_decoder.".into()));
    let mut map = WeightMap { prefixes: vec!["model.", ""], stacks: vec![stack], ..WeightMap::default() };
    lm_head(&mut map, tied, &["{prefix}embed_tokens.weight"], "lm_head.weight");
    // Copies of the shared blocks under the other layers.
    map.ignored.push(format!("{{prefix}}layers.{{layer}}.{shared}*"));
    Ok(map)
}
