//! Mixtures of experts: route first, then run only the experts that were chosen.

use burn::tensor::{Device, Tensor};
use sli_core::{MoeSpec, Result, TensorRole};
use sli_kernels::Precision;
use sli_moe::{ExpertRows, Routing, route};

use crate::backend::SliBackend;
use crate::linear::Linear;
use crate::mlp::Mlp;
use crate::tensors::LayerTensors;

/// The part of a mixture that every token goes through: the router.
#[derive(Clone, Debug)]
pub struct MoeLayer<B: SliBackend> {
    spec: MoeSpec,
    router: Linear<B>,
}

/// One expert with its weights.
#[derive(Clone, Debug)]
pub struct Expert<B: SliBackend>(Mlp<B>);

/// A chunk that waits for its experts.
#[derive(Debug)]
pub struct PendingExperts<B: SliBackend> {
    /// The residual stream, to which the experts' sum will be added.
    pub(crate) residual: Tensor<B, 2>,
    input: Tensor<B, 2>,
    sum: Tensor<B, 2>,
    /// Who chose whom.
    pub routing: Routing,
    /// The same by expert, in ascending order, chosen experts only.
    pub by_expert: Vec<ExpertRows>,
}

impl<B: SliBackend> MoeLayer<B> {
    /// Takes the router's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &MoeSpec, tensors: &LayerTensors, device: &Device<B>) -> Result<Self> {
        // Routing is f32 always: a rounded logit could choose another expert.
        let router = Linear::new(tensors, TensorRole::Router, false, Precision::F32, device)?;
        Ok(Self { spec: spec.clone(), router })
    }

    /// Chooses the experts of each token of `input` (the normalised hidden state).
    pub fn route(&self, residual: Tensor<B, 2>, input: Tensor<B, 2>) -> PendingExperts<B> {
        let logits = B::to_host(self.router.forward(input.clone()));
        let routing = route(&logits, &self.spec.router, self.spec.num_experts);
        let by_expert = routing.by_expert();
        PendingExperts { residual, sum: input.zeros_like(), input, routing, by_expert }
    }

    /// Builds an expert from its tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn expert(
        &self,
        index: u32,
        tensors: &LayerTensors,
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Expert<B>> {
        use TensorRole::{ExpertDown, ExpertGate, ExpertUp};
        let roles = [ExpertGate(index), ExpertUp(index), ExpertDown(index)];
        Ok(Expert(Mlp::gated(&self.spec.expert, tensors, roles, precision, device)?))
    }
}

impl<B: SliBackend> PendingExperts<B> {
    /// Runs the rows that chose expert `index` through it and adds what comes out. Nothing where none did.
    /// Experts are applied in ascending order, so that sums round the same way however the experts were read.
    pub fn apply(&mut self, index: u32, expert: &Expert<B>) {
        let Ok(at) = self.by_expert.binary_search_by_key(&index, |rows| rows.expert) else { return };
        let rows = &self.by_expert[at];
        let y = expert.0.forward(B::gather(&self.input, &rows.tokens));
        // The sum is taken out while it changes, so that the backend can add in place.
        let sum = std::mem::replace(&mut self.sum, Tensor::empty([0, 0], &self.input.device()));
        self.sum = B::scatter_add(sum, y, &rows.tokens, &rows.weights);
    }

    /// The residual stream and the sum of the experts.
    pub(crate) fn into_parts(self) -> (Tensor<B, 2>, Tensor<B, 2>) {
        (self.residual, self.sum)
    }
}
