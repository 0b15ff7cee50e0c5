//! Which weights a spec needs, with their shapes.

use crate::role::{Group, TensorKey, TensorNeed, TensorRole};
use crate::spec::*;

/// Collects needs.
struct Needs(Vec<TensorNeed>);

impl Needs {
    fn tensor(&mut self, key: TensorKey, shape: &[usize]) {
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

impl EmbeddingSpec {
    /// The tensors that the embedding needs, the token table first.
    pub fn needs(&self, hidden: usize) -> Vec<TensorNeed> {
        let mut needs = Needs(Vec::new());
        let token_width = self.token_width.unwrap_or(hidden);
        needs.tensor(TensorRole::TokenEmbedding.weight(), &[self.vocab_size, token_width]);
        if self.token_width.is_some() {
            needs.linear(TensorRole::TokenProjection, hidden, token_width, false);
        }
        if let Some(Positions::Learned { count }) = self.positions {
            needs.tensor(TensorRole::PositionEmbedding.weight(), &[count, hidden]);
        }
        if let Some(count) = self.token_types {
            needs.tensor(TensorRole::TokenTypeEmbedding.weight(), &[count, hidden]);
        }
        if self.task_row {
            needs.tensor(TensorRole::TaskEmbedding.weight(), &[1, hidden]);
        }
        if let Some(norm) = &self.norm {
            needs.norm(TensorRole::EmbeddingNorm, norm, hidden);
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
        let mut needs = Needs(Vec::new());
        for stream in further_streams(&self.embedding) {
            needs.linear(TensorRole::StreamOut(stream), self.hidden_size, self.hidden_size, false);
        }
        if let Some(norm) = &self.final_norm {
            needs.norm(TensorRole::FinalNorm, norm, self.hidden_size);
        }
        if self.embedding.token_width.is_some() {
            needs.linear(TensorRole::FinalProjection, self.final_width(), self.hidden_size, false);
        }
        needs.0
    }
}

impl HeadSpec {
    /// The tensors of the head after a final hidden state of this width, the vocabulary matrix last.
    pub fn needs(&self, hidden: usize) -> Vec<TensorNeed> {
        let mut needs = Needs(Vec::new());
        if let Some(transform) = &self.transform {
            needs.linear(TensorRole::HeadDense, hidden, hidden, transform.bias);
            needs.norm(TensorRole::HeadNorm, &transform.norm, hidden);
        }
        if self.bias {
            needs.tensor(TensorRole::LmHead.bias(), &[self.vocab_size]);
        }
        needs.tensor(TensorRole::LmHead.weight(), &[self.vocab_size, hidden]);
        needs.0
    }
}

impl BlockSpec {
    /// The tensors that the layer needs, in the order in which they are used.
    pub fn needs(&self, hidden: usize) -> Vec<TensorNeed> {
        use TensorRole::{CrossNorm, CrossOutNorm, FfnNorm, FfnOutNorm, MixerNorm, MixerOutNorm};
        let mut needs = Needs(Vec::new());
        let residual = self.residual;
        let norm = |needs: &mut Needs, present: bool, role| {
            if present {
                needs.norm(role, &self.norm, hidden);
            }
        };
        let (own, after) = (residual.norms_input() || residual.norms_sum(), residual.norms_output());
        norm(&mut needs, own && residual.norms_mixer(), MixerNorm);
        match &self.mixer {
            Mixer::Attention(spec) => attention(&mut needs, spec, hidden),
            Mixer::AttentionExperts(spec) => attention_experts(&mut needs, spec, hidden),
            Mixer::Mla(spec) => mla(&mut needs, spec, hidden),
            Mixer::DeltaNet(spec) => delta_net(&mut needs, spec, hidden),
            Mixer::Mamba1(spec) => mamba1(&mut needs, spec, hidden),
        }
        norm(&mut needs, after, MixerOutNorm);
        if let Some(spec) = &self.cross_attention {
            norm(&mut needs, own, CrossNorm);
            use TensorRole::{CrossK, CrossOut, CrossQ, CrossV};
            projections(&mut needs, spec, hidden, [CrossQ, CrossK, CrossV, CrossOut]);
            norm(&mut needs, after, CrossOutNorm);
        }
        let Some(ffn) = &self.ffn else { return needs.0 };
        let first_of_feed_forward = needs.0.len();
        norm(&mut needs, own && !residual.shares_norm(), FfnNorm);
        match ffn {
            Ffn::Mlp(mlp) | Ffn::GatedMlp(mlp) => {
                use TensorRole::{MlpDown, MlpGate, MlpUp};
                let has_gate = matches!(ffn, Ffn::GatedMlp(_));
                let (inner, bias) = (mlp.intermediate_size, mlp.bias);
                feed_forward(&mut needs, inner, bias, hidden, has_gate, [MlpGate, MlpUp, MlpDown]);
            }
            Ffn::SparseGatedMlp(spec) => {
                use TensorRole::{MlpDown, MlpGate, MlpUp};
                let MlpSpec { intermediate_size, bias, .. } = spec.mlp;
                let roles = [MlpGate, MlpUp, MlpDown];
                feed_forward(&mut needs, intermediate_size, bias, hidden, true, roles);
            }
            Ffn::NormedGatedMlp(spec) => {
                use TensorRole::{MlpDown, MlpGate, MlpInnerNorm, MlpUp};
                let MlpSpec { intermediate_size, bias, .. } = spec.mlp;
                let roles = [MlpGate, MlpUp, MlpDown];
                feed_forward(&mut needs, intermediate_size, bias, hidden, true, roles);
                needs.norm(MlpInnerNorm, &spec.norm, intermediate_size);
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
        match residual {
            Residual::AltUp(spec) => altup(&mut needs, &spec, &self.norm, hidden),
            Residual::ScaledSandwich { input } => {
                if let Some(input) = input {
                    layer_input(&mut needs, &input, &self.norm, hidden);
                }
                needs.tensor(TensorRole::LayerScale.weight(), &[1]);
            }
            Residual::DenseBetween(mlp) => {
                use TensorRole::{DenseNorm, MlpDown, MlpGate, MlpUp};
                needs.norm(DenseNorm, &self.norm, hidden);
                let roles = [MlpGate, MlpUp, MlpDown];
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

/// The streams after the first, counted from zero.
fn further_streams(embedding: &EmbeddingSpec) -> std::ops::Range<u32> {
    0..embedding.streams.map_or(0, |streams| streams.saturating_sub(1) as u32)
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

fn attention(needs: &mut Needs, spec: &AttentionSpec, hidden: usize) {
    use TensorRole::{AttnK, AttnKHeadNorm, AttnKNorm, AttnOut, AttnQ, AttnQHeadNorm, AttnQNorm, AttnV};
    projections(needs, spec, hidden, [AttnQ, AttnK, AttnV, AttnOut]);
    let has_keys = spec.key_values.has_keys();
    match &spec.qk_norm {
        None => {}
        Some(QkNorm::PerHead(norm) | QkNorm::PerHeadRotated(norm)) => {
            needs.norm(AttnQNorm, norm, spec.head_dim);
            if has_keys {
                needs.norm(AttnKNorm, norm, spec.head_dim);
            }
        }
        Some(QkNorm::EachHead(norm)) => {
            (0..spec.num_heads as u32).for_each(|head| needs.norm(AttnQHeadNorm(head), norm, spec.head_dim));
            (0..spec.num_kv_heads as u32)
                .for_each(|head| needs.norm(AttnKHeadNorm(head), norm, spec.head_dim));
        }
        Some(QkNorm::Whole(norm)) => {
            needs.norm(AttnQNorm, norm, spec.num_heads * spec.head_dim);
            needs.norm(AttnKNorm, norm, spec.num_kv_heads * spec.head_dim);
        }
    }
    if spec.sinks {
        needs.tensor(TensorRole::AttnSinks.weight(), &[spec.num_heads]);
    }
    if let Some(norm) = &spec.output_norm {
        needs.norm(TensorRole::AttnOutNorm, norm, spec.num_heads * spec.value_dim);
    }
    if let Some(gate) = spec.gate {
        needs.linear(TensorRole::AttnGate, spec.num_heads * spec.value_dim, hidden, gate.bias);
    }
    if let PositionSpec::RelativeBias { num_buckets, .. } = spec.position {
        needs.tensor(TensorRole::RelativeBias.weight(), &[num_buckets, spec.num_heads]);
    }
}

fn attention_experts(needs: &mut Needs, spec: &AttentionExpertsSpec, hidden: usize) {
    use TensorRole::{AttnExpertOut, AttnExpertQ, AttnK, AttnOut, AttnRouter, AttnV};
    let attention = &spec.attention;
    let (queries, mixed) =
        (attention.num_heads * attention.head_dim, attention.num_heads * attention.value_dim);
    needs.linear(AttnRouter, spec.num_experts, hidden, spec.router.bias);
    needs.linear(AttnK, attention.num_kv_heads * attention.head_dim, hidden, attention.bias.key);
    needs.linear(AttnV, attention.num_kv_heads * attention.value_dim, hidden, attention.bias.value);
    for expert in 0..spec.num_experts as u32 {
        needs.linear(AttnExpertQ(expert), queries, hidden, false);
        needs.linear(AttnExpertOut(expert), hidden, mixed, false);
    }
    if attention.bias.output {
        needs.tensor(AttnOut.bias(), &[hidden]);
    }
}

fn projections(needs: &mut Needs, spec: &AttentionSpec, hidden: usize, [q, k, v, out]: [TensorRole; 4]) {
    needs.linear(q, spec.num_heads * spec.head_dim, hidden, spec.bias.query);
    if spec.key_values.has_keys() {
        needs.linear(k, spec.num_kv_heads * spec.head_dim, hidden, spec.bias.key);
    }
    if spec.key_values.has_values() {
        needs.linear(v, spec.num_kv_heads * spec.value_dim, hidden, spec.bias.value);
    }
    needs.linear(out, hidden, spec.num_heads * spec.value_dim, spec.bias.output);
}

fn mla(needs: &mut Needs, spec: &MlaSpec, hidden: usize) {
    use TensorRole::*;
    let (heads, queries) = (spec.num_heads, spec.num_heads * spec.head_dim());
    match spec.query_rank {
        Some(rank) => {
            needs.linear(MlaQueryDown, rank, hidden, spec.bias);
            needs.norm(MlaQueryNorm, &spec.norm, rank);
            needs.linear(MlaQuery, queries, rank, false);
        }
        None => needs.linear(MlaQuery, queries, hidden, false),
    }
    needs.linear(MlaLatent, spec.latent_rank, hidden, spec.bias);
    needs.norm(MlaLatentNorm, &spec.norm, spec.latent_rank);
    needs.linear(MlaRotaryKey, spec.rotary_dim, hidden, spec.bias);
    needs.linear(MlaKey, heads * spec.content_dim, spec.latent_rank, false);
    needs.linear(MlaValue, heads * spec.value_dim, spec.latent_rank, false);
    needs.linear(AttnOut, hidden, heads * spec.value_dim, spec.bias);
    if let Some(indexer) = &spec.indexer {
        let from = spec.query_rank.unwrap_or(hidden);
        needs.linear(IndexQuery, indexer.num_heads * indexer.head_dim, from, false);
        needs.linear(IndexKey, indexer.head_dim, hidden, false);
        needs.norm(IndexKeyNorm, &indexer.norm, indexer.head_dim);
        needs.linear(IndexWeights, indexer.num_heads, hidden, false);
    }
}

fn moe(needs: &mut Needs, spec: &MoeSpec, hidden: usize) {
    use TensorRole::{ExpertDown, ExpertGate, ExpertUp};
    use TensorRole::{ExpertSum, Router, RouterCorrection, SharedDown, SharedGate, SharedScale, SharedUp};
    let choices = spec.num_experts + spec.router.identity_experts;
    needs.linear(Router, choices, hidden, spec.router.bias);
    if spec.router.correction {
        needs.tensor(RouterCorrection.weight(), &[choices]);
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
    let (inner, bias) = (spec.expert.intermediate_size(), spec.expert.bias());
    for e in 0..spec.num_experts as u32 {
        feed_forward(needs, inner, bias, hidden, has_gate, [ExpertGate(e), ExpertUp(e), ExpertDown(e)]);
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

fn delta_net(needs: &mut Needs, spec: &DeltaNetSpec, hidden: usize) {
    use TensorRole::*;
    let (keys, values) = (spec.key_width(), spec.value_width());
    for (role, conv, width) in
        [(DeltaQ, DeltaConvQ, keys), (DeltaK, DeltaConvK, keys), (DeltaV, DeltaConvV, values)]
    {
        needs.linear(role, width, hidden, false);
        needs.tensor(conv.weight(), &[width, spec.conv_width]);
    }
    let mut through = |rank: Option<usize>, [down, up]: [TensorRole; 2], out, bias| {
        if let Some(rank) = rank {
            needs.linear(down, rank, hidden, false);
        }
        needs.linear(up, out, rank.unwrap_or(hidden), bias);
    };
    let decay_rank = match spec.decay {
        StateDecay::PerHead => None,
        StateDecay::PerChannel { rank } => Some(rank),
    };
    through(decay_rank, [DeltaDecayDown, DeltaDecay], spec.num_decays(), true);
    through(spec.gate.rank, [DeltaGateDown, DeltaGate], values, false);
    needs.tensor(DeltaALog.weight(), &[spec.num_heads]);
    needs.linear(DeltaWrite, spec.num_heads, hidden, false);
    needs.norm(DeltaNorm, &spec.norm, spec.value_dim);
    needs.linear(DeltaOut, hidden, values, false);
}

fn mamba1(needs: &mut Needs, spec: &Mamba1Spec, hidden: usize) {
    let inner = spec.inner_size;
    needs.linear(TensorRole::SsmIn, 2 * inner, hidden, spec.projection_bias);
    needs.tensor(TensorRole::SsmConv.weight(), &[inner, spec.conv_width]);
    if spec.conv_bias {
        needs.tensor(TensorRole::SsmConv.bias(), &[inner]);
    }
    needs.linear(TensorRole::SsmX, spec.dt_rank + 2 * spec.state_size, inner, false);
    needs.linear(TensorRole::SsmDt, inner, spec.dt_rank, true);
    needs.tensor(TensorRole::SsmALog.weight(), &[inner, spec.state_size]);
    needs.tensor(TensorRole::SsmD.weight(), &[inner]);
    needs.linear(TensorRole::SsmOut, hidden, inner, spec.projection_bias);
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
        let needs =
            block(Ffn::Moe(MoeSpec { num_experts: 3, router, expert, shared: None, bias: false })).needs(32);
        assert_eq!(needs.iter().filter(|n| n.group == Group::Expert(2)).count(), 3);
        assert!(needs.iter().any(|n| n.key == TensorRole::Router.weight() && n.group == Group::Dense));
    }
}
