//! GPT-J (Wang and Komatsuzaki 2021): GPT-2 with both branches behind one norm, rotations of neighbouring dimensions
//! at the start of each head in place of learned positions, no biases in attention, and a head with a bias.

use sli_core::{
    Family, ModelSpec, PositionSpec, ProjectionBias, Residual, Result, RopeScaling, RopeSpec, StackMap,
    TensorRole, WeightMap,
};

use super::gpt2;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, require, set_residual};
use crate::config::HfConfig;
use crate::maps::{lm_head, modules, neighbour_pairs};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "gptj",
    family: Family::Gpt,
    model_types: &["gptj"],
    architectures: &["GPTJForCausalLM", "GPTJModel"],
    known_models: &[
        KnownModel::new("GPT-J-6B", "EleutherAI/gpt-j-6b", ""),
        KnownModel::new("GPT4All-J", "nomic-ai/gpt4all-j", ""),
    ],
    spec,
    weights,
};

pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec> {
    require(config, "rotary", true)?;
    let mut spec = gpt2::spec(config)?;
    spec.stacks[0].embedding.positions = None;
    set_residual(&mut spec, Residual::Parallel { shared_norm: true });
    let rotary_dim = config.optional_usize("rotary_dim")?;
    for (_, attention) in attentions(&mut spec) {
        attention.bias = ProjectionBias::all(false);
        attention.position = PositionSpec::Rope(RopeSpec {
            theta: 10_000.0,
            rotary_dim: rotary_dim.unwrap_or(attention.head_dim),
            scaling: RopeScaling::None,
        });
    }
    if let Some(head) = &mut spec.head {
        head.bias = true;
    }
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{AttnK, AttnQ, AttnV};
    let mut map = map(config)?;
    let (stack, pairs) = (&mut map.stacks[0], neighbour_pairs(spec));
    for (role, name, ops) in
        [(AttnQ, "q_proj", &pairs[..]), (AttnK, "k_proj", &pairs[..]), (AttnV, "v_proj", &[][..])]
    {
        stack.module_with(role, &format!("{{prefix}}h.{{layer}}.attn.{name}"), ops);
    }
    Ok(map)
}

/// Everything but queries, keys and values.
pub(super) fn map(config: &HfConfig) -> Result<WeightMap> {
    use TensorRole::{AttnOut, FinalNorm, LmHead, MixerNorm, MlpDown, MlpUp, TokenEmbedding};
    let mut stack = StackMap::default();
    modules(&mut stack, "{prefix}", &[(TokenEmbedding, "wte"), (FinalNorm, "ln_f")]);
    let names =
        [(MixerNorm, "ln_1"), (AttnOut, "attn.out_proj"), (MlpUp, "mlp.fc_in"), (MlpDown, "mlp.fc_out")];
    modules(&mut stack, "{prefix}h.{layer}.", &names);
    let mut map =
        WeightMap { prefixes: vec!["transformer.", ""], stacks: vec![stack], ..WeightMap::default() };
    let tied = config.bool_or("tie_word_embeddings", false)?;
    lm_head(&mut map, tied, &["{prefix}wte.weight"], "lm_head.weight");
    map.head.tensor(LmHead.bias(), &["lm_head.bias"], &[]);
    // Causal masks and tables of angles that old checkpoints carry, and heads of other tasks.
    let unused = [
        "{prefix}h.{layer}.attn.bias",
        "{prefix}h.{layer}.attn.causal_mask",
        "{prefix}h.{layer}.attn.masked_bias",
        "{prefix}h.{layer}.attn.embed_positions",
        "score.*",
        "qa_outputs.*",
    ];
    map.ignored.extend(unused.map(String::from));
    Ok(map)
}
