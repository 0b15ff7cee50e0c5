//! What a model's spec says about its experts.

use serde::{Deserialize, Serialize};
use sli_core::{BlockSpec, ExpertGroups, Ffn, Group, ModelSpec, MoeSpec, Result, SliError, WeightFormat};

/// A layer with experts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoeLayer {
    /// Index of the stack.
    pub stack: usize,
    /// Index of the layer within the stack.
    pub layer: usize,
    /// Experts in the layer.
    pub num_experts: usize,
    /// Experts that each token goes through.
    pub experts_per_token: usize,
    /// Experts that every token goes through besides, as released configs count them: widths of one expert.
    pub shared_experts: usize,
    /// Weights and biases of one expert.
    pub parameters_per_expert: u64,
}

impl MoeLayer {
    /// Bytes of one expert's weights when stored like this.
    pub fn bytes_per_expert(&self, format: WeightFormat) -> u64 {
        self.parameters_per_expert * format.bits() / 8
    }

    /// Parameters of all experts of the layer.
    pub fn expert_parameters(&self) -> u64 {
        self.parameters_per_expert * self.num_experts as u64
    }

    /// Parameters of the experts that one token goes through.
    pub fn active_expert_parameters(&self) -> u64 {
        self.parameters_per_expert * self.experts_per_token as u64
    }
}

/// Answers questions about the experts of a model that has some.
#[derive(Clone, Debug, PartialEq)]
pub struct MoeHandler {
    /// Never empty.
    layers: Vec<MoeLayer>,
    num_layers: usize,
}

impl MoeHandler {
    /// Finds the layers with experts; `None` when the model has none.
    ///
    /// # Errors
    /// [`SliError::MoeConfiguration`] when there are no experts to choose from, tokens that choose none or more than
    /// there are, or experts of no size or of one beyond all memory.
    pub fn from_spec(spec: &ModelSpec) -> Result<Option<Self>> {
        let mut layers = Vec::new();
        for (stack, stack_spec) in spec.stacks.iter().enumerate() {
            for (layer, block) in stack_spec.layers.iter().enumerate() {
                if let Some(Ffn::Moe(moe)) = &block.ffn {
                    let parameters_per_expert = check(moe)
                        .and_then(|()| parameters_per_expert(block, moe, stack_spec.hidden_size))
                        .map_err(|message| SliError::MoeConfiguration {
                            message: format!("layer {layer} of stack {stack} {message}"),
                        })?;
                    layers.push(MoeLayer {
                        stack,
                        layer,
                        num_experts: moe.num_experts,
                        experts_per_token: moe.router.top_k,
                        shared_experts: shared_experts(moe),
                        parameters_per_expert,
                    });
                }
            }
        }
        let num_layers = spec.num_layers();
        Ok((!layers.is_empty()).then_some(Self { layers, num_layers }))
    }

    /// The layers with experts, stack by stack, in order.
    pub fn layers(&self) -> &[MoeLayer] {
        &self.layers
    }

    /// The layer of this index, if it has experts.
    pub fn layer(&self, stack: usize, layer: usize) -> Option<&MoeLayer> {
        self.layers.iter().find(|moe| (moe.stack, moe.layer) == (stack, layer))
    }

    /// Experts per layer; the most where layers differ.
    pub fn num_experts(&self) -> usize {
        self.largest(|layer| layer.num_experts)
    }

    /// Experts that a token goes through in a layer; the most where layers differ.
    pub fn experts_per_token(&self) -> usize {
        self.largest(|layer| layer.experts_per_token)
    }

    /// Experts that every token goes through besides; the most where layers differ.
    pub fn shared_experts(&self) -> usize {
        self.largest(|layer| layer.shared_experts)
    }

    /// Weights and biases of one expert; the most where layers differ.
    pub fn parameters_per_expert(&self) -> u64 {
        self.largest(|layer| layer.parameters_per_expert)
    }

    /// Bytes of the largest expert when stored like this.
    pub fn bytes_per_expert(&self, format: WeightFormat) -> u64 {
        self.largest(|layer| layer.bytes_per_expert(format))
    }

    /// Parameters of all experts of all layers.
    pub fn expert_parameters(&self) -> u64 {
        self.layers.iter().map(MoeLayer::expert_parameters).sum()
    }

    /// Parameters of the experts that one token goes through, in all layers.
    pub fn active_expert_parameters(&self) -> u64 {
        self.layers.iter().map(MoeLayer::active_expert_parameters).sum()
    }

    /// The facts for people and for `run.json`.
    pub fn summary(&self) -> MoeSummary {
        MoeSummary {
            num_experts: self.num_experts(),
            experts_per_token: self.experts_per_token(),
            shared_experts: self.shared_experts(),
            num_moe_layers: self.layers.len(),
            num_layers: self.num_layers,
            parameters_per_expert: self.parameters_per_expert(),
            expert_parameters: self.expert_parameters(),
            active_expert_parameters: self.active_expert_parameters(),
        }
    }

    fn largest<T: Ord + Default>(&self, of: impl Fn(&MoeLayer) -> T) -> T {
        self.layers.iter().map(of).max().unwrap_or_default()
    }
}

/// A model's experts in a few numbers. Where layers differ, the first two and the size of an expert are the largest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoeSummary {
    /// Experts per layer.
    pub num_experts: usize,
    /// Experts that a token goes through in a layer.
    pub experts_per_token: usize,
    /// Experts that every token goes through besides.
    pub shared_experts: usize,
    /// Layers with experts.
    pub num_moe_layers: usize,
    /// Layers of all stacks.
    pub num_layers: usize,
    /// Weights and biases of one expert.
    pub parameters_per_expert: u64,
    /// Parameters of all experts of all layers.
    pub expert_parameters: u64,
    /// Parameters of the experts that one token goes through, in all layers.
    pub active_expert_parameters: u64,
}

fn check(moe: &MoeSpec) -> Result<(), String> {
    let (num_experts, top_k) = (moe.num_experts, moe.router.top_k);
    if num_experts == 0 {
        return Err("has no experts".into());
    }
    if u32::try_from(num_experts).is_err() {
        return Err(format!("has {num_experts} experts, more than can be numbered"));
    }
    let choices = num_experts.saturating_add(moe.router.idle_experts());
    if top_k == 0 {
        return Err(format!("has {num_experts} experts, but a token chooses none (experts per token is 0)"));
    }
    if top_k > choices {
        return Err(format!("lets a token choose {top_k} experts, but has only {choices}"));
    }
    if let Some(ExpertGroups { count, chosen, best_of }) = moe.router.groups {
        if count == 0 || !choices.is_multiple_of(count) {
            return Err(format!("has {choices} experts, which are not {count} groups of one size"));
        }
        let size = choices / count;
        if chosen == 0 || chosen > count || best_of == 0 || best_of > size || chosen * size < top_k {
            return Err(format!(
                "lets a token choose {top_k} experts from {chosen} of {count} groups of {size}, judged by {best_of}"
            ));
        }
    }
    if moe.expert.intermediate_size() == 0 {
        return Err("has experts with an intermediate size of 0".into());
    }
    Ok(())
}

/// How many widths of an expert the shared ones have; one where they are no whole number.
fn shared_experts(moe: &MoeSpec) -> usize {
    let inner = moe.expert.intermediate_size();
    match moe.shared {
        None => 0,
        Some(shared) if shared.mlp.intermediate_size.is_multiple_of(inner) => {
            shared.mlp.intermediate_size / inner
        }
        Some(_) => 1,
    }
}

/// Counts the tensors that one expert needs.
fn parameters_per_expert(block: &BlockSpec, moe: &MoeSpec, hidden: usize) -> Result<u64, String> {
    let one = Ffn::Moe(MoeSpec { num_experts: 1, ..moe.clone() });
    let needs = BlockSpec { ffn: Some(one), ..block.clone() }.needs(hidden);
    let tensors = needs.iter().filter(|need| need.group == Group::Expert(0));
    let parameters =
        |shape: &[usize]| shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size as u64));
    let per_expert = tensors.map(|need| parameters(&need.shape)).try_fold(0u64, |sum, n| sum.checked_add(n?));
    // So far below 2^64 that sums over layers and numbers of bytes do not overflow either.
    let fits = |n: &u64| n.checked_mul(moe.num_experts as u64).is_some_and(|all| all < 1 << 48);
    per_expert.filter(fits).ok_or_else(|| {
        format!("has experts of {hidden} x {}, too large to be counted", moe.expert.intermediate_size())
    })
}

#[cfg(test)]
mod tests {
    use sli_core::{
        Activation, AttentionSpec, Dtype, EmbeddingSpec, ExpertSpec, Family, LinearInputs, Mask, Mixer,
        MlpSpec, NormSpec, PositionSpec, ProjectionBias, Residual, RouterSpec, SharedExpertSpec, StackKind,
        StackSpec,
    };

    use super::*;

    fn moe(num_experts: usize, top_k: usize, intermediate_size: usize) -> Ffn {
        let expert = MlpSpec { intermediate_size, activation: Activation::Silu, bias: false };
        let (router, expert) = (RouterSpec::softmax(top_k, true), ExpertSpec::Gated(expert));
        Ffn::Moe(MoeSpec { num_experts, router, expert, shared: None, bias: false, latent: None })
    }

    fn model(hidden_size: usize, ffns: Vec<Ffn>) -> ModelSpec {
        let attention = AttentionSpec {
            num_heads: 4,
            num_kv_heads: 2,
            head_dim: hidden_size / 4,
            value_dim: hidden_size / 4,
            scale: 0.5,
            softcap: None,
            mask: Mask::Causal,
            position: PositionSpec::None,
            bias: ProjectionBias::all(false),
            qk_norm: None,
            sinks: false,
            clip: None,
            output_norm: None,
            gate: None,
            temperature: None,
            key_values: sli_core::KeyValues::Projected,
        };
        let layer = |ffn| BlockSpec {
            mixer: Mixer::Attention(attention.clone()),
            cross_attention: None,
            ffn: Some(ffn),
            residual: Residual::PreNorm,
            norm: NormSpec::rms(1e-6),
        };
        let stack = StackSpec {
            kind: StackKind::Decoder,
            hidden_size,
            embedding: EmbeddingSpec::tokens(100),
            layers: ffns.into_iter().map(layer).collect(),
            final_norm: Some(NormSpec::rms(1e-6)),
        };
        ModelSpec {
            architecture: "test".into(),
            family: Family::Moe,
            stacks: vec![stack],
            head: None,
            max_length: None,
            decoder_start: None,
            linear_inputs: LinearInputs::Exact,
        }
    }

    fn dense() -> Ffn {
        Ffn::GatedMlp(MlpSpec { intermediate_size: 48, activation: Activation::Silu, bias: false })
    }

    #[test]
    fn a_dense_model_has_no_experts() {
        assert_eq!(MoeHandler::from_spec(&model(32, vec![dense(), dense()])).unwrap(), None);
    }

    #[test]
    fn counts_what_eight_experts_of_a_large_model_hold() {
        let handler = MoeHandler::from_spec(&model(4096, vec![moe(8, 2, 14336); 32])).unwrap().unwrap();
        // Three matrices of 4096 x 14336.
        assert_eq!(handler.parameters_per_expert(), 176_160_768);
        assert_eq!(handler.bytes_per_expert(WeightFormat::Plain(Dtype::Bf16)), 352_321_536);
        assert_eq!(handler.expert_parameters(), 45_097_156_608);
        assert_eq!(handler.active_expert_parameters(), 11_274_289_152);
        let summary = handler.summary();
        assert_eq!((summary.num_experts, summary.experts_per_token), (8, 2));
        assert_eq!((summary.num_moe_layers, summary.num_layers), (32, 32));
    }

    #[test]
    fn layers_may_differ() {
        let handler =
            MoeHandler::from_spec(&model(32, vec![dense(), moe(4, 2, 48), moe(6, 1, 16)])).unwrap().unwrap();
        assert_eq!(handler.layers().iter().map(|layer| layer.layer).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((handler.num_experts(), handler.experts_per_token()), (6, 2));
        assert!(handler.layer(0, 0).is_none());
        assert_eq!(
            handler.layer(0, 2).unwrap().bytes_per_expert(WeightFormat::Plain(Dtype::F32)),
            3 * 32 * 16 * 4
        );
        assert_eq!(handler.expert_parameters(), 3 * 32 * (4 * 48 + 6 * 16));
        assert_eq!(handler.active_expert_parameters(), 3 * 32 * (2 * 48 + 16));
        assert_eq!(handler.summary().num_moe_layers, 2);
    }

    #[test]
    fn biases_are_parameters_too() {
        let Ffn::Moe(mut spec) = moe(4, 2, 48) else { unreachable!() };
        spec.expert =
            ExpertSpec::Gated(MlpSpec { intermediate_size: 48, activation: Activation::Silu, bias: true });
        let handler = MoeHandler::from_spec(&model(32, vec![Ffn::Moe(spec)])).unwrap().unwrap();
        assert_eq!(handler.parameters_per_expert(), 3 * 32 * 48 + 48 + 48 + 32);
    }

    #[test]
    fn shared_experts_are_counted_in_widths_of_an_expert() {
        let Ffn::Moe(mut spec) = moe(4, 2, 16) else { unreachable!() };
        let mlp = MlpSpec { intermediate_size: 32, activation: Activation::Silu, bias: false };
        spec.shared = Some(SharedExpertSpec { mlp, gated: false, scale: 1.0 });
        let handler =
            MoeHandler::from_spec(&model(32, vec![dense(), Ffn::Moe(spec.clone())])).unwrap().unwrap();
        assert_eq!((handler.shared_experts(), handler.layer(0, 1).unwrap().num_experts), (2, 4));
        spec.router.groups = Some(ExpertGroups { count: 3, chosen: 1, best_of: 1 });
        let error = MoeHandler::from_spec(&model(32, vec![Ffn::Moe(spec)])).unwrap_err().to_string();
        assert!(error.contains("4 experts, which are not 3 groups"), "{error}");
    }

    #[test]
    fn nonsense_is_refused_with_its_values() {
        for (ffn, says) in [
            (moe(0, 0, 48), "layer 1 of stack 0 has no experts"),
            (moe(8, 0, 48), "has 8 experts, but a token chooses none"),
            (moe(8, 9, 48), "lets a token choose 9 experts, but has only 8"),
            (moe(8, 2, 0), "intermediate size of 0"),
            (moe(usize::MAX, 2, 48), "more than can be numbered"),
            (moe(8, 2, usize::MAX), "too large to be counted"),
        ] {
            let error = MoeHandler::from_spec(&model(32, vec![dense(), ffn])).unwrap_err();
            assert!(matches!(error, SliError::MoeConfiguration { .. }));
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
