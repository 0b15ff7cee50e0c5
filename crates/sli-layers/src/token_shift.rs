//! A token mixed with the one before it, channel by channel (RWKV's "token shift").

use burn::tensor::{Device, Tensor, TensorData};
use sli_core::{MixShare, Result, TensorRole};

use crate::backend::SliBackend;
use crate::loader::Loader;

/// share * x + (1 - share) * the token before, which is zero at the start of a sample: a convolution over two tokens.
#[derive(Clone, Debug)]
pub(crate) struct TokenShift<B: SliBackend> {
    /// [channels, 2], the tap of the token before first.
    taps: Tensor<B, 2>,
}

impl<B: SliBackend> TokenShift<B> {
    /// Takes the vector of shares.
    ///
    /// # Errors
    /// When it was not loaded.
    pub(crate) fn load(role: TensorRole, share: MixShare, loader: &Loader<B>) -> Result<Self> {
        let shares = loader.values(role)?;
        let taps = shares.iter().flat_map(|stored| match share {
            MixShare::Own => [1.0 - stored, *stored],
            MixShare::Previous => [*stored, 1.0 - stored],
        });
        let taps = TensorData::new(taps.collect::<Vec<f32>>(), [shares.len(), 2]);
        Ok(Self { taps: Tensor::from_data(taps, loader.device) })
    }

    /// The token before and nothing else.
    pub(crate) fn whole(channels: usize, device: &Device<B>) -> Self {
        let taps = TensorData::new([1.0, 0.0].repeat(channels), [channels, 2]);
        Self { taps: Tensor::from_data(taps, device) }
    }

    /// [tokens, channels] -> the same shape.
    pub(crate) fn forward(&self, x: Tensor<B, 2>, offsets: &[usize]) -> Tensor<B, 2> {
        B::causal_convolution(x, &self.taps, None, offsets)
    }
}
