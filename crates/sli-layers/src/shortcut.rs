//! What lies between the input of the experts and their output where these are a shortcut past half of the layer
//! (LongCat-Flash).

use burn::tensor::Tensor;
use sli_core::{BlockSpec, MlpSpec, Result, TensorRole};

use crate::backend::SliBackend;
use crate::carried::Carried;
use crate::context::ChunkContext;
use crate::loader::Loader;
use crate::mixer::MixerLayer;
use crate::mlp::Mlp;
use crate::residual::Branch;

/// The first sublayer's MLP, and the second sublayer.
#[derive(Clone, Debug)]
pub(crate) struct Shortcut<B: SliBackend> {
    first: Mlp<B>,
    mixer: (MixerLayer<B>, Branch<B>),
    second: (Mlp<B>, Branch<B>),
}

impl<B: SliBackend> Shortcut<B> {
    /// Takes the tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(mlp: &MlpSpec, spec: &BlockSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{FfnNorm, FfnOutNorm, MixerNorm, MixerOutNorm, MlpDown, MlpGate, MlpUp};
        let tensors = loader.tensors.of_sublayer(1);
        let later = &loader.over(&tensors);
        let gated = |loader| Mlp::gated(mlp, loader, [MlpGate, MlpUp, MlpDown]);
        let branch = |roles| Branch::load(spec, roles, later);
        let mixer = MixerLayer::new(&spec.mixer, later)?;
        let mixer = mixer.ok_or_else(|| loader.tensors.error("it has no mixer".into()))?;
        Ok(Self {
            first: gated(loader)?,
            mixer: (mixer, branch([MixerNorm, MixerOutNorm])?),
            second: (gated(later)?, branch([FfnNorm, FfnOutNorm])?),
        })
    }

    /// The stream after the first mixer and what the first MLP sees of it -> the stream at the layer's end, without the
    /// experts.
    pub(crate) fn forward(
        &self,
        past: Tensor<B, 2>,
        input: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> Tensor<B, 2> {
        let x = B::join(past, self.first.forward(input));
        let (mixer, branch) = &self.mixer;
        let (past, input) = branch.enter(x);
        let x = branch.join(past, mixer.forward(input, carried, context));
        let (mlp, branch) = &self.second;
        let (past, input) = branch.enter(x);
        branch.join(past, mlp.forward(input))
    }
}
