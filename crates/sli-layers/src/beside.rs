//! A dense network beside experts, with norms of its own and of theirs (Gemma 4).

use burn::tensor::Tensor;
use sli_core::{MlpSpec, NormSpec, Result, TensorRole};

use crate::backend::SliBackend;
use crate::loader::Loader;
use crate::mlp::Mlp;
use crate::norm::Norm;

/// norm'(mlp(norm(x))), and the norm of what the experts return.
#[derive(Clone, Debug)]
pub(crate) struct BesideExperts<B: SliBackend> {
    input: Norm<B>,
    mlp: Mlp<B>,
    output: Norm<B>,
    experts: Norm<B>,
}

impl<B: SliBackend> BesideExperts<B> {
    /// Takes the network's and the norms' tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(mlp: &MlpSpec, norm: NormSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{DenseNorm, DenseOutNorm, ExpertsOutNorm, MlpDown, MlpGate, MlpUp};
        let norm = |role| Norm::load(norm, loader, role);
        Ok(Self {
            input: norm(DenseNorm)?,
            mlp: Mlp::gated(mlp, loader, [MlpGate, MlpUp, MlpDown])?,
            output: norm(DenseOutNorm)?,
            experts: norm(ExpertsOutNorm)?,
        })
    }

    /// What the branch gives, from the residual stream and the sum of the experts.
    pub(crate) fn join(&self, stream: Tensor<B, 2>, experts: Tensor<B, 2>) -> Tensor<B, 2> {
        let dense = self.mlp.forward(self.input.forward(stream));
        B::join(self.output.forward(dense), self.experts.forward(experts))
    }
}
