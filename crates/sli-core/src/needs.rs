//! Which weights a spec needs, with their shapes.

mod mixers;
mod wkv;

use self::mixers::{mixer, projections};
use crate::role::{Group, TensorKey, TensorNeed, TensorRole};
use crate::spec::*;

/// Collects needs, of one sublayer at a time.
struct Needs(Vec<TensorNeed>, u8);

impl Needs {
    fn tensor(&mut self, key: TensorKey, shape: &[usize]) {
        let key = key.in_sublayer(self.1);
        let group = key.role.expert().map_or(Group::Dense, Group::Expert);
        self.0.push(TensorNeed { key, shape: shape.to_vec(), group });
    }

    fn linear(&mut self, role: TensorRole, out: usize, input: usize, bias: bool) {
        self.tensor(role.weight(), &[out, input]);
        if bias {
            self.tensor(role.bias(), &[out]);
        }
    }

    fn norm(&mut self, role: TensorRole, spec: &NormSpec, width: usize) {
        if spec.has_weight() {
            self.tensor(role.weight(), &[width]);
        }
        if spec.has_bias() {
            self.tensor(role.bias(), &[width]);
        }
    }
}

impl Needs {
    /// A factor and what is added before it.
    fn stretch(&mut self, role: TensorRole, width: usize) {
        self.tensor(role.weight(), &[width]);
        self.tensor(role.bias(), &[width]);
    }
}

impl EmbeddingSpec {
    /// The tensors that the embedding needs, the token table first.
    pub fn needs(&self, hidden: usize) -> Vec<TensorNeed> {
        let mut needs = Needs(Vec::new(), 0);
        let (token_width, sum_width) = (self.token_width(hidden), self.sum_width(hidden));
        needs.tensor(TensorRole::TokenEmbedding.weight(), &[self.vocab_size, token_width]);
        if let Some(narrow) = self.narrow {
            let bias = matches!(narrow, Narrow::Sum { .. });
            needs.linear(TensorRole::TokenProjection, hidden, token_width, bias);
        }
        if let Some(Positions::Learned { count }) = self.positions {
            needs.tensor(TensorRole::PositionEmbedding.weight(), &[count, sum_width]);
        }
        if let Some(count) = self.token_types {
            needs.tensor(TensorRole::TokenTypeEmbedding.weight(), &[count, sum_width]);
        }
        if self.task_row {
            needs.tensor(TensorRole::TaskEmbedding.weight(), &[1, sum_width]);
        }
        if self.stretched {
            needs.stretch(TensorRole::EmbeddingStretch, sum_width);
        }
        if let Some(norm) = &self.norm {
            needs.norm(TensorRole::EmbeddingNorm, norm, sum_width);
        }
        if let Some(inputs) = &self.layer_inputs {
            needs.tensor(TensorRole::LayerInputTable.weight(), &[inputs.vocab_size, inputs.total()]);
            needs.linear(TensorRole::LayerInputProjection, inputs.total(), hidden, false);
            needs.norm(TensorRole::LayerInputNorm, &inputs.norm, inputs.width);
        }
        for stream in further_streams(self) {
            needs.linear(TensorRole::StreamIn(stream), hidden, hidden, false);
        }
        needs.0
    }
}

impl StackSpec {
    /// The tensors of the final norm, and of what surrounds it.
    pub fn final_norm_needs(&self) -> Vec<TensorNeed> {
        let mut needs = Needs(Vec::new(), 0);
        if let Some(Streams::Copied(hyper)) = &self.embedding.streams {
            use TensorRole::{HyperOut, HyperOutScale};
            needs.linear(HyperOut, hyper.streams, hyper.streams * self.hidden_size, true);
            needs.tensor(HyperOutScale.weight(), &[1]);
        }
        for stream in further_streams(&self.embedding) {
            needs.linear(TensorRole::StreamOut(stream), self.hidden_size, self.hidden_size, false);
        }
        if let Some(norm) = &self.final_norm {
            needs.norm(TensorRole::FinalNorm, norm, self.hidden_size);
        }
        if self.embedding.final_projection().is_some() {
            needs.linear(TensorRole::FinalProjection, self.final_width(), self.hidden_size, false);
        }
        needs.0
    }
}

impl HeadSpec {
    /// The tensors of the head after a final hidden state of this width, the vocabulary matrix last.
    pub fn needs(&self, hidden: usize) -> Vec<TensorNeed> {
        let mut needs = Needs(Vec::new(), 0);
        let mut width = hidden;
        if let Some(transform) = &self.transform {
            width = transform.width.unwrap_or(hidden);
            needs.linear(TensorRole::HeadDense, width, hidden, transform.bias);
            if let Some(norm) = &transform.norm {
                needs.norm(TensorRole::HeadNorm, norm, width);
            }
        }
        if self.bias {
            needs.tensor(TensorRole::LmHead.bias(), &[self.vocab_size]);
        }
        needs.tensor(TensorRole::LmHead.weight(), &[self.vocab_size, width]);
        needs.0
    }
}

impl BlockSpec {
    /// The tensors that the layer needs, in the order in which they are used.
    pub fn needs(&self, hidden: usize) -> Vec<TensorNeed> {
        use TensorRole::{CrossNorm, CrossOutNorm, FfnNorm, FfnOutNorm, FfnSkip};
        use TensorRole::{MixerNorm, MixerOutNorm, MixerSkip};
        let mut needs = Needs(Vec::new(), 0);
        let residual = self.residual;
        let norm = |needs: &mut Needs, present: bool, role| {
            if present {
                needs.norm(role, &self.norm, hidden);
            }
        };
        let skip = |needs: &mut Needs, role: TensorRole| {
            if residual == Residual::WeightedPreNorm {
                needs.tensor(role.weight(), &[hidden]);
            }
        };
        norm(&mut needs, residual.norms_stream(), TensorRole::StreamNorm);
        let (own, after) = (residual.norms_input() || residual.norms_sum(), residual.norms_output());
        let has_mixer = self.mixer != Mixer::None;
        norm(&mut needs, own && residual.norms_mixer() && has_mixer, MixerNorm);
        skip(&mut needs, MixerSkip);
        mixer(&mut needs, &self.mixer, hidden);
        norm(&mut needs, after, MixerOutNorm);
        let stretched = residual == Residual::StretchedPreNorm;
        if stretched {
            needs.stretch(TensorRole::MixerStretch, hidden);
            needs.stretch(TensorRole::MixerPastStretch, hidden);
        }
        if let Some(spec) = &self.cross_attention {
            norm(&mut needs, own, CrossNorm);
            use TensorRole::{CrossK, CrossOut, CrossQ, CrossV};
            projections(&mut needs, spec, hidden, [CrossQ, CrossK, CrossV, CrossOut]);
            norm(&mut needs, after, CrossOutNorm);
        }
        let Some(ffn) = &self.ffn else { return needs.0 };
        let first_of_feed_forward = needs.0.len();
        norm(&mut needs, own && !residual.shares_norm(), FfnNorm);
        skip(&mut needs, FfnSkip);
        match ffn {
            Ffn::Mlp(mlp) | Ffn::GatedMlp(mlp) => {
                use TensorRole::{MlpDown, MlpGate, MlpUp};
                let has_gate = matches!(ffn, Ffn::GatedMlp(_));
                let (inner, bias) = (mlp.intermediate_size, mlp.bias);
                feed_forward(&mut needs, inner, bias, hidden, has_gate, [MlpGate, MlpUp, MlpDown]);
            }
            Ffn::BiasedGatedMlp { intermediate_size, .. } => {
                use TensorRole::{MlpDown, MlpGate, MlpUp};
                let roles = [MlpGate, MlpUp, MlpDown];
                feed_forward(&mut needs, *intermediate_size, false, hidden, true, roles);
                needs.tensor(MlpDown.bias(), &[hidden]);
            }
            Ffn::ScaledGatedMlp(ScaledMlpSpec { mlp, .. })
            | Ffn::SparseGatedMlp(SparseMlpSpec { mlp, .. }) => {
                use TensorRole::{MlpDown, MlpGate, MlpUp};
                let MlpSpec { intermediate_size, bias, .. } = *mlp;
                let roles = [MlpGate, MlpUp, MlpDown];
                feed_forward(&mut needs, intermediate_size, bias, hidden, true, roles);
            }
            Ffn::ChannelMix(spec) => wkv::channel_mix(&mut needs, spec, hidden),
            Ffn::NormedGatedMlp(spec) => {
                use TensorRole::{MlpDown, MlpGate, MlpInnerNorm, MlpUp};
                let MlpSpec { intermediate_size, bias, .. } = spec.mlp;
                let roles = [MlpGate, MlpUp, MlpDown];
                feed_forward(&mut needs, intermediate_size, bias, hidden, true, roles);
                needs.norm(MlpInnerNorm, &spec.norm, intermediate_size);
            }
            Ffn::ClampedGatedMlp(mlp) => {
                use TensorRole::{MlpDown, MlpGate, MlpUp};
                let roles = [MlpGate, MlpUp, MlpDown];
                feed_forward(&mut needs, mlp.intermediate_size, mlp.bias, hidden, true, roles);
            }
            Ffn::XieluMlp { intermediate_size } => {
                use TensorRole::{MlpDown, MlpGate, MlpUp};
                use TensorRole::{XieluBeta, XieluEps, XieluNegative, XieluPositive};
                let roles = [MlpGate, MlpUp, MlpDown];
                feed_forward(&mut needs, *intermediate_size, false, hidden, false, roles);
                for learned in [XieluPositive, XieluNegative] {
                    needs.tensor(learned.weight(), &[1]);
                }
                for stored in [XieluBeta, XieluEps] {
                    needs.tensor(stored.weight(), &[]);
                }
            }
            Ffn::Moe(spec) => moe(&mut needs, spec, hidden),
        }
        norm(&mut needs, after, FfnOutNorm);
        if stretched {
            needs.stretch(TensorRole::FfnStretch, hidden);
            needs.stretch(TensorRole::FfnPastStretch, hidden);
        }
        match residual {
            Residual::AltUp(spec) => altup(&mut needs, &spec, &self.norm, hidden),
            Residual::ScaledSandwich { input, beside } => {
                if let Some(mlp) = beside {
                    use TensorRole::{DenseOutNorm, ExpertsOutNorm};
                    dense_mlp(&mut needs, &mlp, &self.norm, hidden);
                    for role in [DenseOutNorm, ExpertsOutNorm] {
                        needs.norm(role, &self.norm, hidden);
                    }
                }
                if let Some(input) = input {
                    layer_input(&mut needs, &input, &self.norm, hidden);
                }
                needs.tensor(TensorRole::LayerScale.weight(), &[1]);
            }
            Residual::ConvolvedPostNorm(convolution) => {
                needs.linear(TensorRole::InputConv, hidden, convolution.width * hidden, true);
                needs.norm(TensorRole::InputConvNorm, &self.norm, hidden);
            }
            Residual::DenseBetween(mlp) => dense_mlp(&mut needs, &mlp, &self.norm, hidden),
            Residual::Hyper(hyper) => {
                use TensorRole::{HyperFfn, HyperFfnScale, HyperMixer, HyperMixerScale};
                for (role, scale) in [(HyperMixer, HyperMixerScale), (HyperFfn, HyperFfnScale)] {
                    needs.linear(role, hyper.coefficients(), hyper.streams * hidden, true);
                    needs.tensor(scale.weight(), &[3]);
                }
            }
            Residual::Shortcut(mlp) => {
                use TensorRole::{MlpDown, MlpGate, MlpUp};
                let roles = [MlpGate, MlpUp, MlpDown];
                feed_forward(&mut needs, mlp.intermediate_size, mlp.bias, hidden, true, roles);
                needs.1 = 1;
                needs.norm(MixerNorm, &self.norm, hidden);
                mixer(&mut needs, &self.mixer, hidden);
                needs.norm(FfnNorm, &self.norm, hidden);
                feed_forward(&mut needs, mlp.intermediate_size, mlp.bias, hidden, true, roles);
            }
            _ => {}
        }
        if self.has_two_parts() {
            needs.0[first_of_feed_forward..].iter_mut().for_each(|need| need.group = Group::FeedForward);
        }
        needs.0
    }
}

/// A dense gated MLP in a layer with experts, with the norm of its input.
fn dense_mlp(needs: &mut Needs, mlp: &MlpSpec, norm: &NormSpec, hidden: usize) {
    use TensorRole::{DenseNorm, MlpDown, MlpGate, MlpUp};
    needs.norm(DenseNorm, norm, hidden);
    feed_forward(needs, mlp.intermediate_size, mlp.bias, hidden, true, [MlpGate, MlpUp, MlpDown]);
}

/// The streams after the first that have a matrix, counted from zero.
fn further_streams(embedding: &EmbeddingSpec) -> std::ops::Range<u32> {
    match embedding.streams {
        Some(Streams::Projected { count }) => 0..count.saturating_sub(1) as u32,
        Some(Streams::Copied(_)) | None => 0..0,
    }
}

fn altup(needs: &mut Needs, spec: &AltUpSpec, norm: &NormSpec, hidden: usize) {
    use TensorRole::*;
    let streams = spec.streams;
    needs.norm(AltUpRouterNorm, norm, hidden);
    needs.linear(AltUpRouter, streams, hidden, false);
    needs.linear(AltUpPredict, streams * streams, streams, false);
    needs.linear(AltUpCorrect, streams, streams, false);
    if spec.scaled {
        needs.tensor(AltUpScale.weight(), &[hidden]);
    }
    needs.linear(LaurelLeft, spec.laurel_rank, hidden, false);
    needs.linear(LaurelRight, hidden, spec.laurel_rank, false);
    needs.norm(LaurelNorm, norm, hidden);
    layer_input(needs, &spec.input, norm, hidden);
}

fn layer_input(needs: &mut Needs, spec: &LayerInputSpec, norm: &NormSpec, hidden: usize) {
    use TensorRole::{LayerInputDown, LayerInputOutNorm, LayerInputUp};
    needs.linear(LayerInputDown, spec.width, hidden, false);
    needs.linear(LayerInputUp, hidden, spec.width, false);
    needs.norm(LayerInputOutNorm, norm, hidden);
}

fn moe(needs: &mut Needs, spec: &MoeSpec, hidden: usize) {
    use TensorRole::{ExpertDown, ExpertGate, ExpertUp};
    use TensorRole::{ExpertSum, Router, RouterCorrection, RouterInputNorm, RouterScales, RouterTable};
    use TensorRole::{SharedDown, SharedGate, SharedScale, SharedUp};
    let choices = spec.num_experts + spec.router.idle_experts();
    let input = spec.router.network.map_or(hidden, |network| network.width);
    if let Some(network) = &spec.router.network {
        use TensorRole::{RouterDown, RouterFirst, RouterNorm, RouterPrevious, RouterSecond};
        needs.linear(RouterDown, network.width, hidden, true);
        if network.adds_previous {
            needs.tensor(RouterPrevious.weight(), &[network.width]);
        }
        needs.norm(RouterNorm, &network.norm, network.width);
        needs.linear(RouterFirst, network.width, network.width, true);
        needs.linear(RouterSecond, network.width, network.width, true);
    }
    if let RouterInput::Stream { norm } = &spec.router.input {
        needs.norm(RouterInputNorm, norm, hidden);
    }
    needs.linear(Router, choices, input, spec.router.bias);
    if spec.router.correction {
        needs.tensor(RouterCorrection.weight(), &[choices]);
    }
    if spec.router.learned_scales {
        needs.tensor(RouterScales.weight(), &[choices]);
    }
    if let Some(rows) = spec.router.table {
        needs.tensor(RouterTable.weight(), &[rows, spec.router.top_k]);
    }
    if spec.bias {
        needs.tensor(ExpertSum.bias(), &[hidden]);
    }
    let has_gate = spec.expert.has_gate();
    if let Some(shared) = &spec.shared {
        let roles = [SharedGate, SharedUp, SharedDown];
        feed_forward(needs, shared.mlp.intermediate_size, shared.mlp.bias, hidden, has_gate, roles);
        if shared.gated {
            needs.linear(SharedScale, 1, hidden, false);
        }
    }
    let width = spec.latent.map_or(hidden, |latent| latent.width);
    if let Some(LatentSpec { width, bias }) = spec.latent {
        needs.linear(TensorRole::ExpertsIn, width, hidden, bias);
        needs.linear(TensorRole::ExpertsOut, hidden, width, bias);
    }
    let (inner, bias) = (spec.expert.intermediate_size(), spec.expert.bias());
    for e in 0..spec.num_experts as u32 {
        feed_forward(needs, inner, bias, width, has_gate, [ExpertGate(e), ExpertUp(e), ExpertDown(e)]);
    }
}

fn feed_forward(
    needs: &mut Needs,
    inner: usize,
    bias: bool,
    hidden: usize,
    has_gate: bool,
    [gate, up, down]: [TensorRole; 3],
) {
    if has_gate {
        needs.linear(gate, inner, hidden, bias);
    }
    needs.linear(up, inner, hidden, bias);
    needs.linear(down, hidden, inner, bias);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(ffn: Ffn) -> BlockSpec {
        let attention = AttentionSpec {
            num_heads: 4,
            num_kv_heads: 2,
            head_dim: 8,
            value_dim: 8,
            scale: 0.35,
            softcap: None,
            mask: Mask::Causal,
            position: PositionSpec::None,
            bias: ProjectionBias::qkv(true),
            qk_norm: None,
            sinks: false,
            clip: None,
            output_norm: None,
            gate: None,
            temperature: None,
            key_values: KeyValues::Projected,
        };
        BlockSpec {
            mixer: Mixer::Attention(attention),
            cross_attention: None,
            ffn: Some(ffn),
            residual: Residual::PreNorm,
            norm: NormSpec::rms(1e-6),
        }
    }

    #[test]
    fn shapes_follow_from_the_spec() {
        let mlp = MlpSpec { intermediate_size: 48, activation: Activation::Silu, bias: false };
        let needs = block(Ffn::GatedMlp(mlp)).needs(32);
        let shape = |key: TensorKey| needs.iter().find(|n| n.key == key).map(|n| n.shape.clone());
        assert_eq!(shape(TensorRole::AttnK.weight()), Some(vec![16, 32]));
        assert_eq!(shape(TensorRole::AttnK.bias()), Some(vec![16]));
        assert_eq!(shape(TensorRole::AttnOut.bias()), None);
        assert_eq!(shape(TensorRole::MlpDown.weight()), Some(vec![32, 48]));
        assert_eq!(shape(TensorRole::MixerNorm.bias()), None);
    }

    #[test]
    fn each_expert_is_a_group_of_its_own() {
        let mlp = MlpSpec { intermediate_size: 48, activation: Activation::Silu, bias: false };
        let (router, expert) = (RouterSpec::softmax(2, true), ExpertSpec::Gated(mlp));
        let needs = block(Ffn::Moe(MoeSpec {
            num_experts: 3,
            router,
            expert,
            shared: None,
            bias: false,
            latent: None,
        }))
        .needs(32);
        assert_eq!(needs.iter().filter(|n| n.group == Group::Expert(2)).count(), 3);
        assert!(needs.iter().any(|n| n.key == TensorRole::Router.weight() && n.group == Group::Dense));
    }
}
