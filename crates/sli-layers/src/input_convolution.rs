//! What DeBERTa-v2 does last in its first layer: a convolution of what went into it is added.

use burn::tensor::Tensor;
use sli_core::{BlockSpec, CentredConvolution, Result, TensorRole};

use crate::backend::SliBackend;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mlp::kernel_activation;
use crate::norm::Norm;
use crate::shift::shifted;

/// norm(y + act(convolution(x))).
#[derive(Clone, Debug)]
pub(crate) struct InputConvolution<B: SliBackend> {
    spec: CentredConvolution,
    /// [out, in * width]: for each input its taps, the earliest first.
    taps: Linear<B>,
    norm: Norm<B>,
}

impl<B: SliBackend> InputConvolution<B> {
    /// Takes the convolution and the norm after it.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(spec: CentredConvolution, block: &BlockSpec, loader: &Loader<B>) -> Result<Self> {
        Ok(Self {
            spec,
            taps: Linear::new(loader, TensorRole::InputConv, true)?,
            norm: Norm::load(block.norm, loader, TensorRole::InputConvNorm)?,
        })
    }

    /// What went into the layer and what comes out of its branches, [tokens, hidden] both. Outside of a sample there are
    /// zeros.
    pub(crate) fn join(&self, x: Tensor<B, 2>, y: Tensor<B, 2>, offsets: &[usize]) -> Tensor<B, 2> {
        let ([tokens, hidden], width) = (x.dims(), self.spec.width);
        let nothing = Tensor::zeros([1, hidden], &x.device());
        let reach = self.spec.reach() as isize;
        let taps = (-reach..=reach).map(|tap| shifted(x.clone(), nothing.clone(), -tap, offsets));
        let seen: Tensor<B, 3> = Tensor::stack(taps.collect(), 2);
        let convolved = self.taps.forward(seen.reshape([tokens, hidden * width]));
        let added = B::nonlinearity(kernel_activation(self.spec.activation), convolved);
        self.norm.forward(B::join(y, added))
    }
}
