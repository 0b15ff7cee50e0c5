use serde::{Deserialize, Serialize};

use super::{AttentionSpec, Mamba2Spec, Mixer, MlpSpec, NormSpec};

/// Attention and a scan side by side (Falcon-H1): out * attention(in * x) + out' * scan(in' * x).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionAndScanSpec {
    /// The attention.
    pub attention: AttentionSpec,
    /// What goes into the attention and what comes out of it are multiplied by these.
    pub attention_scales: [f64; 2],
    /// The scan.
    pub scan: Mamba2Spec,
    /// What goes into the scan and what comes out of it are multiplied by these.
    pub scan_scales: [f64; 2],
}

/// A scan that also sees what a block of attention makes of the stream x and the embedding e (Zamba):
/// scan(norm(x + out(mlp(norm'(attention(norm''([x, e]))))))).
///
/// The block's weights serve several layers; what sets its uses apart is low-rank additions to its projections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InformedScanSpec {
    /// The attention, over stream and embedding side by side.
    pub attention: AttentionSpec,
    /// The gated MLP after it.
    pub mlp: MlpSpec,
    /// All three norms.
    pub norm: NormSpec,
    /// What is added to the block's projections in this layer.
    pub adapters: Option<AdapterSpec>,
    /// The scan.
    pub scan: Box<Mixer>,
}

/// Additions up(down(x)) to projections of x: to gate and up of an MLP, which have one down in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterSpec {
    /// Width between down and up.
    pub rank: usize,
    /// Are there others for queries, keys and values, each with its own down?
    pub attention: bool,
}
