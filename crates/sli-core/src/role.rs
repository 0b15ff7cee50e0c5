//! The global vocabulary of weights, and which of them a spec needs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spec::*;

/// What a weight is for, whatever a checkpoint calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // the names say it; shapes are given by `needs`
pub enum TensorRole {
    // embedding
    TokenEmbedding,
    PositionEmbedding,
    TokenTypeEmbedding,
    EmbeddingNorm,
    // block: norms of the branches
    MixerNorm,
    MixerOutNorm,
    CrossNorm,
    CrossOutNorm,
    FfnNorm,
    FfnOutNorm,
    // attention
    AttnQ,
    AttnK,
    AttnV,
    AttnOut,
    AttnQNorm,
    AttnKNorm,
    AttnQHeadNorm(u32),
    AttnKHeadNorm(u32),
    RelativeBias,
    CrossQ,
    CrossK,
    CrossV,
    CrossOut,
    // state-space mixers
    SsmIn,
    SsmConv,
    SsmX,
    SsmDt,
    SsmALog,
    SsmD,
    SsmOut,
    // feed-forward
    MlpGate,
    MlpUp,
    MlpDown,
    Router,
    ExpertGate(u32),
    ExpertUp(u32),
    ExpertDown(u32),
    // after the layers
    FinalNorm,
    HeadDense,
    HeadNorm,
    LmHead,
}

impl TensorRole {
    /// The role's weight.
    pub const fn weight(self) -> TensorKey {
        TensorKey { role: self, part: Part::Weight }
    }

    /// The role's bias.
    pub const fn bias(self) -> TensorKey {
        TensorKey { role: self, part: Part::Bias }
    }

    /// Which expert it belongs to.
    pub const fn expert(self) -> Option<u32> {
        match self {
            Self::ExpertGate(e) | Self::ExpertUp(e) | Self::ExpertDown(e) => Some(e),
            _ => None,
        }
    }

    /// Which of several alike it is: the expert, or the head that has a norm of its own.
    pub const fn index(self) -> Option<u32> {
        match self {
            Self::AttnQHeadNorm(head) | Self::AttnKHeadNorm(head) => Some(head),
            _ => self.expert(),
        }
    }

    /// The first of those alike, under which a [`crate::StackMap`] keeps their source.
    pub(crate) const fn first_alike(self) -> Self {
        match self {
            Self::ExpertGate(_) => Self::ExpertGate(0),
            Self::ExpertUp(_) => Self::ExpertUp(0),
            Self::ExpertDown(_) => Self::ExpertDown(0),
            Self::AttnQHeadNorm(_) => Self::AttnQHeadNorm(0),
            Self::AttnKHeadNorm(_) => Self::AttnKHeadNorm(0),
            other => other,
        }
    }
}

/// Weight or bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Part {
    Weight,
    Bias,
}

/// One tensor of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TensorKey {
    /// What it is for.
    pub role: TensorRole,
    /// Weight or bias.
    pub part: Part,
}

impl fmt::Display for TensorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = if self.part == Part::Weight { "weight" } else { "bias" };
        write!(f, "{:?} {part}", self.role)
    }
}

/// The unit of reading: what has to be in memory together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// All that every token goes through.
    Dense,
    /// One expert.
    Expert(u32),
}

/// A tensor that a spec needs, in the shape that the code expects after loading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorNeed {
    /// Which tensor.
    pub key: TensorKey,
    /// Its shape: matrices are [out, in].
    pub shape: Vec<usize>,
    /// With what it is read.
    pub group: Group,
}

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
        needs.tensor(TensorRole::TokenEmbedding.weight(), &[self.vocab_size, hidden]);
        if let Some(positions) = &self.positions {
            needs.tensor(TensorRole::PositionEmbedding.weight(), &[positions.count, hidden]);
        }
        if let Some(count) = self.token_types {
            needs.tensor(TensorRole::TokenTypeEmbedding.weight(), &[count, hidden]);
        }
        if let Some(norm) = &self.norm {
            needs.norm(TensorRole::EmbeddingNorm, norm, hidden);
        }
        needs.0
    }
}

impl StackSpec {
    /// The tensors of the final norm.
    pub fn final_norm_needs(&self) -> Vec<TensorNeed> {
        let mut needs = Needs(Vec::new());
        if let Some(norm) = &self.final_norm {
            needs.norm(TensorRole::FinalNorm, norm, self.hidden_size);
        }
        needs.0
    }
}

impl HeadSpec {
    /// The tensors of the head, the vocabulary matrix last.
    pub fn needs(&self, hidden: usize) -> Vec<TensorNeed> {
        let mut needs = Needs(Vec::new());
        if let Some(transform) = &self.transform {
            needs.linear(TensorRole::HeadDense, hidden, hidden, true);
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
        norm(&mut needs, own, MixerNorm);
        match &self.mixer {
            Mixer::Attention(spec) => attention(&mut needs, spec, hidden),
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
        norm(&mut needs, own && !residual.shares_norm(), FfnNorm);
        match ffn {
            Ffn::Mlp(spec) => {
                needs.linear(TensorRole::MlpUp, spec.intermediate_size, hidden, spec.bias);
                needs.linear(TensorRole::MlpDown, hidden, spec.intermediate_size, spec.bias);
            }
            Ffn::GatedMlp(spec) => {
                use TensorRole::{MlpDown, MlpGate, MlpUp};
                gated(&mut needs, spec, hidden, [MlpGate, MlpUp, MlpDown]);
            }
            Ffn::Moe(spec) => moe(&mut needs, spec, hidden),
        }
        norm(&mut needs, after, FfnOutNorm);
        needs.0
    }
}

fn attention(needs: &mut Needs, spec: &AttentionSpec, hidden: usize) {
    use TensorRole::{AttnK, AttnKHeadNorm, AttnKNorm, AttnOut, AttnQ, AttnQHeadNorm, AttnQNorm, AttnV};
    projections(needs, spec, hidden, [AttnQ, AttnK, AttnV, AttnOut]);
    match &spec.qk_norm {
        None => {}
        Some(QkNorm::PerHead(norm) | QkNorm::PerHeadRotated(norm)) => {
            needs.norm(AttnQNorm, norm, spec.head_dim);
            needs.norm(AttnKNorm, norm, spec.head_dim);
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
    if let PositionSpec::RelativeBias { num_buckets, .. } = spec.position {
        needs.tensor(TensorRole::RelativeBias.weight(), &[num_buckets, spec.num_heads]);
    }
}

fn projections(needs: &mut Needs, spec: &AttentionSpec, hidden: usize, [q, k, v, out]: [TensorRole; 4]) {
    needs.linear(q, spec.num_heads * spec.head_dim, hidden, spec.bias.query);
    needs.linear(k, spec.num_kv_heads * spec.head_dim, hidden, spec.bias.key);
    needs.linear(v, spec.num_kv_heads * spec.value_dim, hidden, spec.bias.value);
    needs.linear(out, hidden, spec.num_heads * spec.value_dim, spec.bias.output);
}

fn gated(needs: &mut Needs, spec: &MlpSpec, hidden: usize, [gate, up, down]: [TensorRole; 3]) {
    needs.linear(gate, spec.intermediate_size, hidden, spec.bias);
    needs.linear(up, spec.intermediate_size, hidden, spec.bias);
    needs.linear(down, hidden, spec.intermediate_size, spec.bias);
}

fn moe(needs: &mut Needs, spec: &MoeSpec, hidden: usize) {
    use TensorRole::{ExpertDown, ExpertGate, ExpertUp};
    needs.linear(TensorRole::Router, spec.num_experts, hidden, false);
    for e in 0..spec.num_experts as u32 {
        gated(needs, &spec.expert, hidden, [ExpertGate(e), ExpertUp(e), ExpertDown(e)]);
    }
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
            temperature: None,
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
        let expert = MlpSpec { intermediate_size: 48, activation: Activation::Silu, bias: false };
        let router = RouterSpec { top_k: 2, scoring: Scoring::Softmax, normalize: true };
        let needs = block(Ffn::Moe(MoeSpec { num_experts: 3, router, expert })).needs(32);
        assert_eq!(needs.iter().filter(|n| n.group == Group::Expert(2)).count(), 3);
        assert!(needs.iter().any(|n| n.key == TensorRole::Router.weight() && n.group == Group::Dense));
    }
}
