//! Scans that go together with attention in one layer: beside it (Falcon-H1) or after it (Zamba).

use burn::tensor::Tensor;
use sli_core::{AttentionAndScanSpec, InformedScanSpec, Result, TensorRole};

use crate::attention::AttentionLayer;
use crate::backend::SliBackend;
use crate::carried::{Carried, EMBEDDING};
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mamba2::Mamba2Layer;
use crate::mixer::MixerLayer;
use crate::mlp::Mlp;
use crate::norm::Norm;

/// out * attention(in * x) + out' * scan(in' * x).
#[derive(Clone, Debug)]
pub(crate) struct AttentionAndScan<B: SliBackend> {
    attention: AttentionLayer<B>,
    attention_scales: [f64; 2],
    scan: Mamba2Layer<B>,
    scan_scales: [f64; 2],
}

impl<B: SliBackend> AttentionAndScan<B> {
    /// Takes the tensors of both.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &AttentionAndScanSpec, loader: &Loader<B>) -> Result<Self> {
        Ok(Self {
            attention: AttentionLayer::new(&spec.attention, loader)?,
            attention_scales: spec.attention_scales,
            scan: Mamba2Layer::new(&spec.scan, loader)?,
            scan_scales: spec.scan_scales,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden].
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> Tensor<B, 2> {
        let scaled = |x: Tensor<B, 2>, scale: f64| if scale == 1.0 { x } else { x * scale };
        let [into, out] = self.attention_scales;
        let attended = scaled(self.attention.forward(scaled(x.clone(), into), carried, context), out);
        let [into, out] = self.scan_scales;
        B::join(attended, scaled(self.scan.forward(scaled(x, into), context), out))
    }
}

/// scan(norm(x + out(mlp(norm'(attention(norm''([x, e]))))))).
#[derive(Clone, Debug)]
pub(crate) struct InformedScan<B: SliBackend> {
    joint_norm: Norm<B>,
    attention: AttentionLayer<B>,
    ffn_norm: Norm<B>,
    mlp: Mlp<B>,
    output: Linear<B>,
    scan_norm: Norm<B>,
    scan: MixerLayer<B>,
}

impl<B: SliBackend> InformedScan<B> {
    /// Takes the tensors of the block and of the scan.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &InformedScanSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{JointFfnNorm, JointNorm, JointOut, MixerNorm, MlpDown, MlpGate, MlpUp};
        let norm = |role| Norm::load(spec.norm, loader, role);
        let mut attention = AttentionLayer::new(&spec.attention, loader)?;
        let mut mlp = Mlp::gated(&spec.mlp, loader, [MlpGate, MlpUp, MlpDown])?;
        if let Some(adapters) = spec.adapters {
            mlp = mlp.adapted(loader)?;
            if adapters.attention {
                attention = attention.adapted(loader)?;
            }
        }
        let scan = MixerLayer::new(&spec.scan, loader)?;
        Ok(Self {
            joint_norm: norm(JointNorm)?,
            attention,
            ffn_norm: norm(JointFfnNorm)?,
            mlp,
            output: Linear::new(loader, JointOut, false)?,
            scan_norm: norm(MixerNorm)?,
            scan: scan.ok_or_else(|| loader.tensors.error("it has no scan".into()))?,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden].
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> Tensor<B, 2> {
        let joint = Tensor::cat(vec![x.clone(), carried.get(EMBEDDING)], 1); // [tokens, 2 * hidden]
        let attended = self.attention.forward(self.joint_norm.forward(joint), carried, context);
        let informed = self.output.forward(self.mlp.forward(self.ffn_norm.forward(attended)));
        self.scan.forward(self.scan_norm.forward(B::join(x, informed)), carried, context)
    }
}
