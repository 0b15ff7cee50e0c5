//! JinaBERT, the encoder of Jina Embeddings v2 (Günther et al. 2023): BERT with biases by distance in place of learned
//! positions, and gated MLPs.

use sli_core::{
    Activation, Alibi, Family, Ffn, MlpSpec, ModelSpec, PositionSpec, Result, TensorRole, WeightMap,
};

use serde_json::json;

use super::bert;
use crate::architecture::{Architecture, KnownModel};
use crate::blocks::{attentions, layers};
use crate::config::HfConfig;
use crate::maps::{Fused, modules};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    name: "jina_bert_v2",
    family: Family::Encoder,
    // Its configs say "bert" there.
    model_types: &[],
    architectures: &["JinaBertForMaskedLM", "JinaBertModel"],
    known_models: &[KnownModel::new(
        "Jina-embeddings-v2-base-en",
        "jinaai/jina-embeddings-v2-base-en",
        "no head, ALiBi",
    )],
    spec,
    weights,
};

fn spec(config: &HfConfig) -> Result<ModelSpec> {
    // How one vector is made of those of all tokens, and the length that the tokenizer cuts at.
    config.ignore(&["emb_pooler", "model_max_length"]);
    if config.str_or("position_embedding_type", "absolute")? != "alibi" {
        return Err(config.invalid("position_embedding_type", "alibi"));
    }
    let activation = match config.str_or("feed_forward_type", "original")? {
        "geglu" => Activation::Gelu,
        "reglu" => Activation::Relu,
        _ => return Err(config.invalid("feed_forward_type", "'geglu' or 'reglu'")),
    };
    let mut spec = bert::spec(&config.with(json!({ "position_embedding_type": "absolute" })))?;
    spec.stacks[0].embedding.positions = None;
    attentions(&mut spec)
        .for_each(|(_, attention)| attention.position = PositionSpec::Alibi(Alibi::Symmetric));
    for (_, block) in layers(&mut spec) {
        if let Some(Ffn::Mlp(MlpSpec { intermediate_size, .. })) = block.ffn {
            block.ffn = Some(Ffn::BiasedGatedMlp { intermediate_size, activation });
        }
    }
    // Embedding models are released under the name of the class that they were trained as, without its head.
    spec.head = None;
    Ok(spec)
}

fn weights(config: &HfConfig, spec: &ModelSpec) -> Result<WeightMap> {
    use TensorRole::{FfnNorm, MlpDown, MlpGate, MlpUp};
    let mut map = bert::weights(config, spec)?;
    let (stack, inner) = (&mut map.stacks[0], config.usize("intermediate_size")?);
    const MLP: &str = "{prefix}encoder.layer.{layer}.mlp.";
    modules(stack, MLP, &[(MlpDown, "wo"), (FfnNorm, "layernorm")]);
    Fused::new(&format!("{MLP}gated_layers")).split(stack, &[(MlpGate, inner), (MlpUp, inner)]);
    map.ignored.push("cls.*".into());
    Ok(map)
}
