//! One layer of a model.

use burn::tensor::{Device, Tensor};
use sli_core::{BlockSpec, Ffn, LayerPart, MlpSpec, Residual, Result, TensorRole};
use sli_kernels::Precision;

use crate::altup::AltUp;
use crate::attention::AttentionLayer;
use crate::backend::SliBackend;
use crate::beside::BesideExperts;
use crate::carried::Carried;
use crate::channel_mix::ChannelMix;
use crate::context::ChunkContext;
use crate::hyper::{HyperConnections, Opened, all_streams};
use crate::input_convolution::InputConvolution;
use crate::layer_input::LayerInput;
use crate::loader::Loader;
use crate::mixer::MixerLayer;
use crate::mlp::Mlp;
use crate::moe::{Expert, MoeLayer, PendingExperts};
use crate::norm::Norm;
use crate::residual::Branch;
use crate::shortcut::Shortcut;
use crate::tensors::LayerTensors;

/// A layer, or a part of one, with its weights, ready to run chunk after chunk.
#[derive(Clone, Debug)]
pub struct Block<B: SliBackend> {
    residual: Residual,
    stream_norm: Option<Norm<B>>,
    mixer: Option<(MixerLayer<B>, Branch<B>)>,
    cross: Option<(AttentionLayer<B>, Branch<B>)>,
    ffn: Option<(FfnLayer<B>, Branch<B>)>,
    /// The dense network between the mixer and the experts.
    dense: Option<(Mlp<B>, Branch<B>)>,
    shortcut: Option<Box<Shortcut<B>>>,
    beside: Option<Box<BesideExperts<B>>>,
    altup: Option<Box<AltUp<B>>>,
    hyper: Option<Box<HyperConnections<B>>>,
    convolution: Option<Box<InputConvolution<B>>>,
    end: Option<LayerEnd<B>>,
    precision: Precision,
    device: Device<B>,
}

#[derive(Clone, Debug)]
enum FfnLayer<B: SliBackend> {
    Mlp(Mlp<B>),
    ChannelMix(Box<ChannelMix<B>>),
    Moe(Box<MoeLayer<B>>),
}

/// What Gemma 4 does last in each layer: the layer's own input, and a number that the whole is multiplied by.
#[derive(Clone, Debug)]
struct LayerEnd<B: SliBackend> {
    input: Option<LayerInput<B>>,
    scale: f32,
}

/// What comes out of a block: the next hidden state, or a chunk that waits for its experts.
#[derive(Debug)]
pub enum Forward<B: SliBackend> {
    /// The hidden state after the layer, [tokens, hidden].
    Done(Tensor<B, 2>),
    /// Add what each expert gives with [`PendingExperts::output`], then [`Block::finish`].
    Pending(Box<PendingExperts<B>>),
}

impl<B: SliBackend> Block<B> {
    /// Builds a part of the layer that `spec` describes. Only a layer that [has two parts](BlockSpec::has_two_parts) can
    /// be built other than whole.
    ///
    /// # Errors
    /// `LayerCreation` when a tensor was not loaded.
    pub fn new(spec: &BlockSpec, part: LayerPart, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{CrossNorm, CrossOutNorm, FfnNorm, FfnOutNorm, MixerNorm, MixerOutNorm};
        use TensorRole::{DenseNorm, MlpDown, MlpGate, MlpUp};
        let roles = [MlpGate, MlpUp, MlpDown];
        let branch = |roles| Branch::load(spec, roles, loader);
        let stream_norm = match part.has_mixers() && spec.residual.norms_stream() {
            true => Some(Norm::load(spec.norm, loader, TensorRole::StreamNorm)?),
            false => None,
        };
        let mixer = match part.has_mixers() {
            true => MixerLayer::new(&spec.mixer, loader)?,
            false => None,
        };
        let mixer = match mixer {
            Some(mixer) => Some((mixer, branch([MixerNorm, MixerOutNorm])?)),
            None => None,
        };
        let cross = match spec.cross_attention.as_ref().filter(|_| part.has_mixers()) {
            Some(cross) => Some((AttentionLayer::cross(cross, loader)?, branch([CrossNorm, CrossOutNorm])?)),
            None => None,
        };
        let ffn = match spec.ffn.as_ref().filter(|_| part.has_feed_forward()) {
            Some(Ffn::Mlp(mlp)) => Some(FfnLayer::Mlp(Mlp::plain(mlp, loader, [MlpUp, MlpDown])?)),
            Some(Ffn::GatedMlp(mlp)) => Some(FfnLayer::Mlp(Mlp::gated(mlp, loader, roles)?)),
            Some(Ffn::BiasedGatedMlp { intermediate_size, activation }) => {
                let (intermediate_size, activation) = (*intermediate_size, *activation);
                let spec = MlpSpec { intermediate_size, activation, bias: false };
                Some(FfnLayer::Mlp(Mlp::gated(&spec, loader, roles)?.biased(loader)?))
            }
            Some(Ffn::ScaledGatedMlp(scaled)) => {
                let mlp = Mlp::gated(&scaled.mlp, loader, roles)?;
                Some(FfnLayer::Mlp(mlp.scaled(scaled.gate_scale, scaled.scale)))
            }
            Some(Ffn::SparseGatedMlp(sparse)) => {
                let mlp = Mlp::gated(&sparse.mlp, loader, roles)?;
                Some(FfnLayer::Mlp(mlp.thinned(sparse.cutoff)))
            }
            Some(Ffn::ChannelMix(mix)) => {
                Some(FfnLayer::ChannelMix(Box::new(ChannelMix::load(mix, loader)?)))
            }
            Some(Ffn::NormedGatedMlp(normed)) => {
                let mlp = Mlp::gated(&normed.mlp, loader, roles)?;
                Some(FfnLayer::Mlp(mlp.normed(normed.norm, loader)?))
            }
            Some(Ffn::ClampedGatedMlp(mlp)) => Some(FfnLayer::Mlp(Mlp::clamped(mlp, loader, roles)?)),
            Some(Ffn::XieluMlp { .. }) => Some(FfnLayer::Mlp(Mlp::xielu(loader)?)),
            Some(Ffn::Moe(moe)) => Some(FfnLayer::Moe(Box::new(MoeLayer::new(moe, loader)?))),
            None => None,
        };
        let dense = match &spec.residual {
            Residual::DenseBetween(mlp) => {
                let network = Mlp::gated(mlp, loader, roles)?;
                Some((network, branch([DenseNorm, FfnOutNorm])?))
            }
            _ => None,
        };
        let shortcut = match &spec.residual {
            Residual::Shortcut(mlp) => Some(Box::new(Shortcut::load(mlp, spec, loader)?)),
            _ => None,
        };
        let altup = match spec.residual {
            Residual::AltUp(altup) => Some(Box::new(AltUp::load(altup, spec, loader)?)),
            _ => None,
        };
        let beside = match &spec.residual {
            Residual::ScaledSandwich { beside: Some(mlp), .. } => {
                Some(Box::new(BesideExperts::load(mlp, spec.norm, loader)?))
            }
            _ => None,
        };
        let hyper = match &spec.residual {
            Residual::Hyper(hyper) => Some(Box::new(HyperConnections::load(hyper, loader)?)),
            _ => None,
        };
        let convolution = match spec.residual {
            Residual::ConvolvedPostNorm(convolution) => {
                Some(Box::new(InputConvolution::load(convolution, spec, loader)?))
            }
            _ => None,
        };
        let end = match spec.residual {
            Residual::ScaledSandwich { input, .. } if part.has_feed_forward() => {
                let load = |input| LayerInput::load(input, spec.norm, loader);
                let scale = loader.values(TensorRole::LayerScale)?[0];
                Some(LayerEnd { input: input.map(load).transpose()?, scale })
            }
            _ => None,
        };
        Ok(Self {
            residual: spec.residual,
            stream_norm,
            dense,
            shortcut,
            beside,
            altup,
            hyper,
            convolution,
            end,
            mixer,
            cross,
            ffn: match ffn {
                Some(ffn) => Some((ffn, branch([FfnNorm, FfnOutNorm])?)),
                None => None,
            },
            precision: loader.precision,
            device: loader.device.clone(),
        })
    }

    /// Runs a chunk, [tokens, hidden], as far as it goes without experts.
    ///
    /// # Panics
    /// When the layer looks at an encoder and the context has none.
    pub fn forward(
        &self,
        x: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> Forward<B> {
        if let Some(altup) = &self.altup {
            return Forward::Done(self.alternate(altup, x, carried, context));
        }
        if let Some(hyper) = &self.hyper {
            return self.connect(hyper, x, carried, context);
        }
        let input = self.convolution.as_ref().map(|convolution| (convolution, x.clone()));
        match (self.branches(x, carried, context), input) {
            (Forward::Done(y), Some((convolution, x))) => {
                Forward::Done(convolution.join(x, y, context.offsets))
            }
            (forward, _) => forward,
        }
    }

    /// The branches over one stream.
    fn branches(
        &self,
        mut x: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> Forward<B> {
        let mut parallel = None;
        match (self.residual, &self.stream_norm) {
            (_, Some(norm)) => x = norm.forward(x),
            (Residual::Rescaled { stream: Some(scale), .. }, _) if scale != 1.0 && self.mixer.is_some() => {
                x = x * scale;
            }
            _ => {}
        }
        if let Some((mixer, branch)) = &self.mixer {
            let (past, input) = branch.enter(x);
            // Parallel branches see what the layer sees, the others what the branch before left.
            parallel = match (self.residual, &self.ffn) {
                (Residual::Parallel { shared_norm: true }, _) => Some(input.clone()),
                (
                    Residual::Parallel { shared_norm: false } | Residual::DenseBetween(_),
                    Some((_, branch)),
                ) => Some(branch.enter(past.clone()).1),
                _ => None,
            };
            x = branch.join(past, mixer.forward(input, carried, context));
        }
        if let Some((cross, branch)) = &self.cross {
            let encoder = context.encoder.expect("the pipeline runs the encoder first");
            let (past, input) = branch.enter(x);
            x = branch.join(past, cross.forward_cross(input, encoder, context));
        }
        if let Some((dense, branch)) = &self.dense {
            let (past, input) = branch.enter(x);
            x = branch.join(past, dense.forward(input));
        }
        let Some((ffn, branch)) = &self.ffn else { return Forward::Done(self.ended(x, carried)) };
        let (past, input) = match parallel {
            Some(input) => (x, input),
            None => branch.enter(x),
        };
        match ffn {
            FfnLayer::Mlp(mlp) => Forward::Done(self.ended(branch.join(past, mlp.forward(input)), carried)),
            FfnLayer::ChannelMix(mix) => {
                Forward::Done(self.ended(branch.join(past, mix.forward(input, context)), carried))
            }
            FfnLayer::Moe(moe) => {
                let past = match &self.shortcut {
                    Some(shortcut) => shortcut.forward(past, input.clone(), carried, context),
                    None => past,
                };
                Forward::Pending(Box::new(moe.route(past, input, carried, context)))
            }
        }
    }

    /// The layer on the first of several streams; see [`sli_core::AltUpSpec`].
    fn alternate(
        &self,
        altup: &AltUp<B>,
        x: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> Tensor<B, 2> {
        let predicted = altup.predicted(x, carried);
        let mut y = predicted[0].clone();
        if let Some((mixer, branch)) = &self.mixer {
            let (past, n) = branch.enter(y);
            let joined = branch.join(past, mixer.forward(n.clone(), carried, context));
            y = B::join(joined, altup.laurel(n)) * std::f64::consts::FRAC_1_SQRT_2;
        }
        if let Some((FfnLayer::Mlp(mlp), branch)) = &self.ffn {
            let (past, input) = branch.enter(y);
            y = branch.join(past, mlp.forward(input));
        }
        altup.corrected(predicted, y, carried)
    }

    /// The layer on several streams; see [`sli_core::HyperSpec`].
    fn connect(
        &self,
        hyper: &HyperConnections<B>,
        mut x: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> Forward<B> {
        if let Some((mixer, branch)) = &self.mixer {
            let (input, opened) = hyper.mixer.open(all_streams(x, carried));
            let y = mixer.forward(branch.enter(input).1, carried, context);
            x = opened.close(y, carried);
        }
        let Some((ffn, branch)) = &self.ffn else { return Forward::Done(x) };
        let (input, opened) = hyper.ffn.open(all_streams(x, carried));
        let input = branch.enter(input).1;
        match ffn {
            FfnLayer::Mlp(mlp) => Forward::Done(opened.close(mlp.forward(input), carried)),
            FfnLayer::ChannelMix(mix) => Forward::Done(opened.close(mix.forward(input, context), carried)),
            FfnLayer::Moe(moe) => {
                let first = opened.wait(carried);
                Forward::Pending(Box::new(moe.route(first, input, carried, context)))
            }
        }
    }

    /// What comes last in the layer.
    fn ended(&self, mut x: Tensor<B, 2>, carried: &mut Carried<B>) -> Tensor<B, 2> {
        let Some(LayerEnd { input, scale }) = &self.end else { return x };
        if let Some(input) = input {
            x = B::join(x.clone(), input.forward(x, carried));
        }
        x * *scale
    }

    /// The hidden state of a chunk whose experts have all been applied.
    pub fn finish(&self, pending: PendingExperts<B>, carried: &mut Carried<B>) -> Tensor<B, 2> {
        let Some((FfnLayer::Moe(moe), branch)) = &self.ffn else {
            unreachable!("only a layer with experts leaves a chunk that waits for some");
        };
        let (residual, sum) = moe.close(pending);
        if self.hyper.is_some() {
            return Opened::waited(residual, carried).close(sum, carried);
        }
        let sum = match &self.beside {
            Some(beside) => beside.join(residual.clone(), sum),
            None => sum,
        };
        self.ended(branch.join(residual, sum), carried)
    }

    /// Builds expert `index` of this layer.
    ///
    /// # Errors
    /// `LayerCreation` when the layer has no experts or a tensor was not loaded.
    pub fn expert(&self, index: u32, tensors: &LayerTensors) -> Result<Expert<B>> {
        match &self.ffn {
            Some((FfnLayer::Moe(moe), _)) => {
                moe.expert(index, &Loader::new(tensors, self.precision, &self.device))
            }
            _ => Err(tensors.error("it has no experts".into())),
        }
    }
}
