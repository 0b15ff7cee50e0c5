//! One layer of a model.

use burn::tensor::{Device, Tensor};
use sli_core::{BlockSpec, Ffn, Mixer, Residual, Result, TensorRole};
use sli_kernels::Precision;

use crate::attention::AttentionLayer;
use crate::backend::SliBackend;
use crate::context::ChunkContext;
use crate::mamba::MambaLayer;
use crate::mlp::Mlp;
use crate::moe::{Expert, MoeLayer, PendingExperts};
use crate::norm::Norm;
use crate::tensors::LayerTensors;

/// A layer with its weights, ready to run chunk after chunk.
#[derive(Clone, Debug)]
pub struct Block<B: SliBackend> {
    residual: Residual,
    mixer: MixerLayer<B>,
    mixer_norm: Norm<B>,
    cross: Option<(AttentionLayer<B>, Norm<B>)>,
    ffn: Option<(FfnLayer<B>, Norm<B>)>,
    precision: Precision,
    device: Device<B>,
}

#[derive(Clone, Debug)]
enum MixerLayer<B: SliBackend> {
    Attention(Box<AttentionLayer<B>>),
    Mamba1(Box<MambaLayer<B>>),
}

#[derive(Clone, Debug)]
enum FfnLayer<B: SliBackend> {
    Mlp(Mlp<B>),
    Moe(MoeLayer<B>),
}

/// What comes out of a block: the next hidden state, or a chunk that waits for its experts.
#[derive(Debug)]
pub enum Forward<B: SliBackend> {
    /// The hidden state after the layer, [tokens, hidden].
    Done(Tensor<B, 2>),
    /// Run [`PendingExperts::apply`] for each expert, then [`Block::finish`].
    Pending(Box<PendingExperts<B>>),
}

impl<B: SliBackend> Block<B> {
    /// Builds the layer that `spec` describes.
    ///
    /// # Errors
    /// `LayerCreation` when a tensor was not loaded.
    pub fn new(
        spec: &BlockSpec,
        tensors: &LayerTensors,
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        let norm = |role| Norm::load(spec.norm, tensors, role, device);
        let mixer = match &spec.mixer {
            Mixer::Attention(attention) => {
                MixerLayer::Attention(Box::new(AttentionLayer::new(attention, tensors, precision, device)?))
            }
            Mixer::Mamba1(mamba) => {
                MixerLayer::Mamba1(Box::new(MambaLayer::new(mamba, tensors, precision, device)?))
            }
        };
        let cross = match &spec.cross_attention {
            Some(cross) => Some((
                AttentionLayer::cross(cross, tensors, precision, device)?,
                norm(TensorRole::CrossNorm)?,
            )),
            None => None,
        };
        let ffn = match &spec.ffn {
            Some(Ffn::Mlp(mlp)) => Some(FfnLayer::Mlp(Mlp::plain(mlp, tensors, precision, device)?)),
            Some(Ffn::GatedMlp(mlp)) => {
                use TensorRole::{MlpDown, MlpGate, MlpUp};
                Some(FfnLayer::Mlp(Mlp::gated(mlp, tensors, [MlpGate, MlpUp, MlpDown], precision, device)?))
            }
            Some(Ffn::Moe(moe)) => Some(FfnLayer::Moe(MoeLayer::new(moe, tensors, device)?)),
            None => None,
        };
        Ok(Self {
            residual: spec.residual,
            mixer,
            mixer_norm: norm(TensorRole::MixerNorm)?,
            cross,
            ffn: ffn.map(|ffn| Ok::<_, sli_core::SliError>((ffn, norm(TensorRole::FfnNorm)?))).transpose()?,
            precision,
            device: device.clone(),
        })
    }

    /// Runs a chunk, [tokens, hidden], as far as it goes without experts.
    ///
    /// # Panics
    /// When the layer looks at an encoder and the context has none.
    pub fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Forward<B> {
        let mut x = self.branch(x, &self.mixer_norm, |x| match &self.mixer {
            MixerLayer::Attention(attention) => attention.forward(x, context),
            MixerLayer::Mamba1(mamba) => mamba.forward(x, context),
        });
        if let Some((cross, norm)) = &self.cross {
            let encoder = context.encoder.expect("the pipeline runs the encoder first");
            x = self.branch(x, norm, |x| cross.forward_cross(x, encoder, context));
        }
        match &self.ffn {
            None => Forward::Done(x),
            Some((FfnLayer::Mlp(mlp), norm)) => Forward::Done(self.branch(x, norm, |x| mlp.forward(x))),
            Some((FfnLayer::Moe(moe), norm)) => {
                let (residual, input) = self.enter(x, norm);
                Forward::Pending(Box::new(moe.route(residual, input)))
            }
        }
    }

    /// The hidden state of a chunk whose experts have all been applied.
    pub fn finish(&self, pending: PendingExperts<B>) -> Tensor<B, 2> {
        let (residual, sum) = pending.into_parts();
        match &self.ffn {
            Some((_, norm)) => self.join(residual, sum, norm),
            None => residual,
        }
    }

    /// Builds expert `index` of this layer.
    ///
    /// # Errors
    /// `LayerCreation` when the layer has no experts or a tensor was not loaded.
    pub fn expert(&self, index: u32, tensors: &LayerTensors) -> Result<Expert<B>> {
        match &self.ffn {
            Some((FfnLayer::Moe(moe), _)) => moe.expert(index, tensors, self.precision, &self.device),
            _ => Err(tensors.error("it has no experts".into())),
        }
    }

    /// One branch of the residual stream.
    fn branch(
        &self,
        x: Tensor<B, 2>,
        norm: &Norm<B>,
        f: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let (residual, input) = self.enter(x, norm);
        self.join(residual, f(input), norm)
    }

    /// What goes past a branch, and what goes into it.
    fn enter(&self, x: Tensor<B, 2>, norm: &Norm<B>) -> (Tensor<B, 2>, Tensor<B, 2>) {
        match self.residual {
            Residual::PreNorm => (x.clone(), norm.forward(x)),
            Residual::PostNorm => (x.clone(), x),
            Residual::FromNorm { scale } => {
                let n = norm.forward(x);
                (n.clone() * scale, n)
            }
        }
    }

    fn join(&self, residual: Tensor<B, 2>, y: Tensor<B, 2>, norm: &Norm<B>) -> Tensor<B, 2> {
        match self.residual {
            Residual::PreNorm | Residual::FromNorm { .. } => B::join(residual, y),
            Residual::PostNorm => norm.forward(B::join(residual, y)),
        }
    }
}
