//! RWKV's MLP, over tokens that are mixed with the ones before them.

use burn::tensor::Tensor;
use sli_core::{ChannelMixSpec, MlpSpec, Result, TensorRole};
use sli_kernels::Activation;

use crate::backend::SliBackend;
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mlp::Mlp;
use crate::token_shift::TokenShift;

/// down(relu(up(k))^2), perhaps times sigmoid(gate(r)), where k and r are mixtures of x with the token before.
#[derive(Clone, Debug)]
pub(crate) struct ChannelMix<B: SliBackend> {
    shift: TokenShift<B>,
    mlp: Mlp<B>,
    gate: Option<(TokenShift<B>, Linear<B>)>,
}

impl<B: SliBackend> ChannelMix<B> {
    /// Takes the tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(spec: &ChannelMixSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{ChannelShiftK, ChannelShiftR, MlpDown, MlpGate, MlpUp};
        let shift = |role| TokenShift::load(role, spec.share, loader);
        let activation = sli_core::Activation::ReluSquared;
        let mlp = MlpSpec { intermediate_size: spec.intermediate_size, activation, bias: false };
        let gate = match spec.gated {
            true => Some((shift(ChannelShiftR)?, Linear::new(loader, MlpGate, false)?)),
            false => None,
        };
        Ok(Self { shift: shift(ChannelShiftK)?, mlp: Mlp::plain(&mlp, loader, [MlpUp, MlpDown])?, gate })
    }

    /// [tokens, hidden] -> [tokens, hidden].
    pub(crate) fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let y = self.mlp.forward(self.shift.forward(x.clone(), context.offsets));
        let Some((shift, gate)) = &self.gate else { return y };
        B::gated_nonlinearity(Activation::Sigmoid, gate.forward(shift.forward(x, context.offsets)), y)
    }
}
