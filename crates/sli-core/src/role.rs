//! The global vocabulary of weights.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a weight is for, whatever a checkpoint calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // the names say it; shapes are given by `needs`
pub enum TensorRole {
    // embedding
    TokenEmbedding,
    TokenProjection,
    PositionEmbedding,
    TokenTypeEmbedding,
    TaskEmbedding,
    EmbeddingStretch,
    EmbeddingNorm,
    LayerInputTable,
    LayerInputProjection,
    LayerInputNorm,
    StreamIn(u32),
    // block: norms of the stream and of the branches
    StreamNorm,
    MixerNorm,
    MixerOutNorm,
    CrossNorm,
    CrossOutNorm,
    FfnNorm,
    FfnOutNorm,
    MixerSkip,
    FfnSkip,
    // block: alternating updates, the layer's own input, what the whole is multiplied by
    AltUpRouterNorm,
    AltUpRouter,
    AltUpPredict,
    AltUpCorrect,
    AltUpScale,
    LaurelLeft,
    LaurelRight,
    LaurelNorm,
    LayerInputDown,
    LayerInputUp,
    LayerInputOutNorm,
    LayerScale,
    // block: learned vectors of what is added
    MixerStretch,
    MixerPastStretch,
    FfnStretch,
    FfnPastStretch,
    // block: a convolution of the layer's input
    InputConv,
    InputConvNorm,
    // block: several streams
    HyperMixer,
    HyperMixerScale,
    HyperFfn,
    HyperFfnScale,
    // attention
    AttnQ,
    AttnK,
    AttnV,
    AttnOut,
    AttnQNorm,
    AttnKNorm,
    AttnVNorm,
    AttnSinks,
    AttnOutNorm,
    AttnGate,
    AttnQHeadNorm(u32),
    AttnKHeadNorm(u32),
    RelativeBias,
    RotationTable,
    DistanceTable,
    DistanceNorm,
    DistanceK,
    DistanceQ,
    KeyBias,
    KeyBiasRate,
    LambdaQ1,
    LambdaK1,
    LambdaQ2,
    LambdaK2,
    AttnRouter,
    AttnExpertQ(u32),
    AttnExpertOut(u32),
    // convolved attention, decayed attention
    AttnVBefore,
    AttnKScale,
    ChannelTaps,
    HeadTaps,
    DecayedQ,
    DecayedK,
    DecayedV,
    DecayedOut,
    DecayedGate,
    DecayedNorm,
    // cross attention
    CrossQ,
    CrossK,
    CrossV,
    CrossOut,
    // latent attention and its indexer
    MlaQueryDown,
    MlaQueryNorm,
    MlaQuery,
    MlaLatent,
    MlaLatentNorm,
    MlaRotaryKey,
    MlaKey,
    MlaValue,
    IndexQuery,
    IndexKey,
    IndexKeyNorm,
    IndexWeights,
    // attention to summaries
    SummaryValue,
    SummaryWeight,
    SummaryPlaces,
    SummaryNorm,
    IndexSummaryValue,
    IndexSummaryWeight,
    IndexSummaryPlaces,
    IndexSummaryNorm,
    GroupOut(u32),
    // delta rule
    DeltaQ,
    DeltaK,
    DeltaV,
    DeltaConvQ,
    DeltaConvK,
    DeltaConvV,
    DeltaDecayDown,
    DeltaDecay,
    DeltaALog,
    DeltaWrite,
    DeltaGateDown,
    DeltaGate,
    DeltaNorm,
    DeltaOut,
    // gated short convolutions
    ConvIn,
    ConvTaps,
    ConvOut,
    // state-space mixers
    SsmIn,
    SsmConv,
    SsmX(u32),
    SsmDt(u32),
    SsmALog(u32),
    SsmD(u32),
    SsmStepNorm,
    SsmWriteNorm,
    SsmReadNorm,
    SsmNorm,
    SsmOut,
    LruIn,
    LruConv,
    LruInputGate,
    LruFadeGate,
    LruFade,
    LruGate,
    LruOut,
    // mixtures with the token before, and the mixers that see them
    ShiftR,
    ShiftW,
    ShiftK,
    ShiftV,
    ShiftA,
    ShiftG,
    ShiftFirst,
    ChannelShiftK,
    ChannelShiftR,
    MixDown,
    MixUp(u32),
    WkvR,
    WkvK,
    WkvV,
    WkvG,
    WkvOut,
    WkvNorm,
    WkvBonus,
    WkvDecay,
    WkvDecayDown,
    WkvDecayUp,
    WkvEraseDown,
    WkvEraseUp,
    WkvGateDown,
    WkvGateUp,
    WkvFirstDown,
    WkvFirstUp,
    WkvErasedKey,
    WkvKeptKey,
    // a block of attention before a scan
    JointNorm,
    JointFfnNorm,
    JointOut,
    QueryAdapterDown,
    QueryAdapter,
    KeyAdapterDown,
    KeyAdapter,
    ValueAdapterDown,
    ValueAdapter,
    MlpAdapterDown,
    GateAdapter,
    UpAdapter,
    // feed-forward
    DenseNorm,
    DenseOutNorm,
    ExpertsOutNorm,
    MlpGate,
    MlpUp,
    MlpDown,
    MlpInnerNorm,
    XieluPositive,
    XieluNegative,
    XieluBeta,
    XieluEps,
    Router,
    RouterInputNorm,
    RouterCorrection,
    RouterTable,
    RouterDown,
    RouterPrevious,
    RouterNorm,
    RouterFirst,
    RouterSecond,
    RouterScales,
    ExpertSum,
    ExpertsIn,
    ExpertsOut,
    SharedGate,
    SharedUp,
    SharedDown,
    SharedScale,
    ExpertGate(u32),
    ExpertUp(u32),
    ExpertDown(u32),
    // after the layers
    StreamOut(u32),
    HyperOut,
    HyperOutScale,
    FinalNorm,
    FinalProjection,
    HeadDense,
    HeadNorm,
    LmHead,
}

impl TensorRole {
    /// The role's weight.
    pub const fn weight(self) -> TensorKey {
        TensorKey { role: self, part: Part::Weight, sublayer: 0 }
    }

    /// The role's bias.
    pub const fn bias(self) -> TensorKey {
        TensorKey { role: self, part: Part::Bias, sublayer: 0 }
    }

    /// Are its elements integers rather than numbers to compute with?
    pub const fn holds_integers(self) -> bool {
        matches!(self, Self::RouterTable)
    }

    /// Which expert it belongs to.
    pub const fn expert(self) -> Option<u32> {
        match self {
            Self::ExpertGate(e) | Self::ExpertUp(e) | Self::ExpertDown(e) => Some(e),
            _ => None,
        }
    }

    /// Which of several alike it is: the expert, the head that has a norm of its own, or the stream.
    /// Experts of attention are read with their layer, since most are needed for any text.
    pub const fn index(self) -> Option<u32> {
        match self {
            Self::AttnQHeadNorm(head) | Self::AttnKHeadNorm(head) => Some(head),
            Self::AttnExpertQ(expert) | Self::AttnExpertOut(expert) => Some(expert),
            Self::StreamIn(stream) | Self::StreamOut(stream) => Some(stream),
            Self::GroupOut(group) => Some(group),
            Self::MixUp(index) => Some(index),
            Self::SsmX(head) | Self::SsmDt(head) | Self::SsmALog(head) | Self::SsmD(head) => Some(head),
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
            Self::AttnExpertQ(_) => Self::AttnExpertQ(0),
            Self::AttnExpertOut(_) => Self::AttnExpertOut(0),
            Self::StreamIn(_) => Self::StreamIn(0),
            Self::GroupOut(_) => Self::GroupOut(0),
            Self::MixUp(_) => Self::MixUp(0),
            Self::SsmX(_) => Self::SsmX(0),
            Self::SsmDt(_) => Self::SsmDt(0),
            Self::SsmALog(_) => Self::SsmALog(0),
            Self::SsmD(_) => Self::SsmD(0),
            Self::StreamOut(_) => Self::StreamOut(0),
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
    /// Where a layer does the same twice with other weights ([`crate::Residual::Shortcut`]), which time; else 0.
    pub sublayer: u8,
}

impl TensorKey {
    /// The tensor of the same role in another sublayer.
    pub const fn in_sublayer(self, sublayer: u8) -> Self {
        Self { sublayer, ..self }
    }
}

impl fmt::Display for TensorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = if self.part == Part::Weight { "weight" } else { "bias" };
        write!(f, "{:?} {part}", self.role)?;
        if self.sublayer > 0 { write!(f, " of sublayer {}", self.sublayer) } else { Ok(()) }
    }
}

/// The unit of reading: what has to be in memory together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// All that every token goes through, but for what is a group of its own.
    Dense,
    /// The feed-forward network of a layer that [can be run in two parts](crate::BlockSpec::has_two_parts).
    FeedForward,
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
