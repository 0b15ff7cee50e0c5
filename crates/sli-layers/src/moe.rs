//! Mixtures of experts: route first, then run only the experts that were chosen.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{Tensor, TensorData, activation};
use sli_core::{ExpertSpec, LatentSpec, MoeSpec, Result, TensorRole, Weighs};
use sli_moe::{ExpertRows, Routing, route, route_to};

use crate::backend::SliBackend;
use crate::carried::Carried;
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mlp::Mlp;
use crate::router::Router;
use crate::tensors::LayerTensors;

/// The part of a mixture that every token goes through: the router and the shared expert.
#[derive(Clone, Debug)]
pub struct MoeLayer<B: SliBackend> {
    spec: MoeSpec,
    router: Router<B>,
    /// What the weight of each choice is multiplied by.
    scales: Option<Vec<f32>>,
    correction: Option<Vec<f32>>,
    /// Which experts a token of the vocabulary goes to, `top_k` for each, where they are not chosen.
    table: Option<Vec<u32>>,
    /// What is added to the sum, `[hidden]`.
    bias: Option<Tensor<B, 1>>,
    shared: Option<SharedExpert<B>>,
    /// Into the narrow state that the experts work on, and back.
    latent: Option<[Linear<B>; 2]>,
}

/// The expert that every token goes through.
#[derive(Clone, Debug)]
struct SharedExpert<B: SliBackend> {
    mlp: Mlp<B>,
    /// [tokens, hidden] -> [tokens, 1], the logit of its weight.
    gate: Option<Linear<B>>,
    scale: f64,
}

/// One expert with its weights.
#[derive(Clone, Debug)]
pub struct Expert<B: SliBackend>(Mlp<B>);

/// What an expert makes of the rows of a chunk that chose it.
#[derive(Debug)]
pub struct ExpertOutput<B: SliBackend> {
    /// Which of the chosen experts.
    at: usize,
    /// [rows, hidden]
    rows: Tensor<B, 2>,
}

/// A chunk that waits for its experts.
#[derive(Debug)]
pub struct PendingExperts<B: SliBackend> {
    /// The residual stream, to which the experts' sum will be added.
    pub(crate) residual: Tensor<B, 2>,
    input: Tensor<B, 2>,
    sum: Mutex<Tensor<B, 2>>,
    /// What is added to the sum once it is as wide as the hidden state, where experts work on a narrow one.
    beside: Option<Tensor<B, 2>>,
    weighs: Weighs,
    /// Who chose whom.
    pub routing: Routing,
    /// The same by expert, in ascending order, chosen experts only.
    pub by_expert: Vec<ExpertRows>,
}

impl<B: SliBackend> MoeLayer<B> {
    /// Takes the tensors of the router and of the shared expert.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &MoeSpec, loader: &Loader<B>) -> Result<Self> {
        let router = Router::new(&spec.router, loader)?;
        let per_choice = |present: bool, role| present.then(|| loader.values(role)).transpose();
        let correction = per_choice(spec.router.correction, TensorRole::RouterCorrection)?;
        let scales = per_choice(spec.router.learned_scales, TensorRole::RouterScales)?;
        let shared = SharedExpert::new(spec, loader)?;
        let bias = loader.bias_if(TensorRole::ExpertSum, spec.bias)?;
        let table = spec.router.table.map(|_| expert_table(spec, loader.tensors)).transpose()?;
        let projection = |role, bias| Linear::new(loader, role, bias);
        let latent = match spec.latent {
            Some(LatentSpec { bias, .. }) => {
                Some([projection(TensorRole::ExpertsIn, bias)?, projection(TensorRole::ExpertsOut, bias)?])
            }
            None => None,
        };
        Ok(Self { spec: spec.clone(), router, scales, correction, table, bias, shared, latent })
    }

    /// Chooses the experts of each token of `input` (the normalised hidden state), and begins their sum with what
    /// needs none of them.
    pub fn route(
        &self,
        residual: Tensor<B, 2>,
        input: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> PendingExperts<B> {
        let logits = B::to_host(self.router.forward(&input, &residual, carried));
        let spec = &self.spec;
        let mut routing = match &self.table {
            Some(table) => {
                let of_token =
                    |token: &u32| &table[*token as usize * spec.router.top_k..][..spec.router.top_k];
                let experts = context.tokens.iter().flat_map(of_token).copied().collect();
                route_to(&logits, &spec.router, experts, spec.num_experts)
            }
            None => route(&logits, &spec.router, self.correction.as_deref(), spec.num_experts),
        };
        if let Some(capacity) = spec.router.capacity {
            routing.limit(capacity, context.offsets);
        }
        if let Some(scales) = &self.scales {
            routing.scale(scales);
        }
        let mut sum = match &self.shared {
            Some(shared) => shared.forward(input.clone()),
            None => input.zeros_like(),
        };
        if let Some(bias) = &self.bias {
            sum = sum + bias.clone().unsqueeze();
        }
        let (input, mut sum, beside) = match &self.latent {
            Some([down, _]) => {
                let narrow = down.forward(input);
                (narrow.clone(), narrow.zeros_like(), Some(sum))
            }
            None => (input, sum, None),
        };
        if let Some(weights) = routing.identity_weights() {
            let all: Vec<u32> = (0..weights.len() as u32).collect();
            sum = B::scatter_add(sum, input.clone(), &all, &weights);
        }
        let by_expert = routing.by_expert();
        let sum = Mutex::new(sum);
        PendingExperts { residual, input, sum, beside, weighs: spec.router.weighs, routing, by_expert }
    }

    /// The residual stream, and all that is added to it once every chosen expert has been applied.
    pub(crate) fn close(&self, pending: PendingExperts<B>) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let sum = pending.sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        let sum = match &self.latent {
            Some([_, up]) => up.forward(sum),
            None => sum,
        };
        match pending.beside {
            Some(beside) => (pending.residual, B::join(beside, sum)),
            None => (pending.residual, sum),
        }
    }

    /// Builds an expert from its tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn expert(&self, index: u32, loader: &Loader<B>) -> Result<Expert<B>> {
        use TensorRole::{ExpertDown, ExpertGate, ExpertUp};
        let roles = [ExpertGate(index), ExpertUp(index), ExpertDown(index)];
        Ok(Expert(Mlp::expert(&self.spec.expert, loader, roles)?))
    }
}

/// The table of a router that reads experts off it.
///
/// # Errors
/// When it was not loaded, or names experts that do not exist.
fn expert_table(spec: &MoeSpec, tensors: &LayerTensors) -> Result<Vec<u32>> {
    let values = tensors.weight(TensorRole::RouterTable)?.to_f32();
    let expert = |value: &f32| {
        let exists = (0.0..spec.num_experts as f32).contains(value);
        exists
            .then_some(*value as u32)
            .ok_or_else(|| tensors.error(format!("its table of experts names {value}")))
    };
    values.iter().map(expert).collect()
}

impl<B: SliBackend> SharedExpert<B> {
    fn new(spec: &MoeSpec, loader: &Loader<B>) -> Result<Option<Self>> {
        use TensorRole::{SharedDown, SharedGate, SharedScale, SharedUp};
        let Some(shared) = &spec.shared else { return Ok(None) };
        let network = match spec.expert {
            ExpertSpec::Plain(_) => ExpertSpec::Plain(shared.mlp),
            ExpertSpec::Limited { limit, .. } => ExpertSpec::Limited { mlp: shared.mlp, limit },
            _ => ExpertSpec::Gated(shared.mlp),
        };
        let mlp = Mlp::expert(&network, loader, [SharedGate, SharedUp, SharedDown])?;
        let gate = match shared.gated {
            true => Some(Linear::new(loader, SharedScale, false)?),
            false => None,
        };
        Ok(Some(Self { mlp, gate, scale: shared.scale }))
    }

    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = self.mlp.forward(x.clone());
        let y = match &self.gate {
            Some(gate) => y * activation::sigmoid(gate.forward(x)),
            None => y,
        };
        if self.scale == 1.0 { y } else { y * self.scale }
    }
}

impl<B: SliBackend> PendingExperts<B> {
    /// What an expert makes of the rows that chose it; `None` when no row did.
    pub fn output(&self, index: u32, expert: &Expert<B>) -> Option<ExpertOutput<B>> {
        let at = self.by_expert.binary_search_by_key(&index, |rows| rows.expert).ok()?;
        let rows = &self.by_expert[at];
        let x = B::gather(&self.input, &rows.tokens);
        let rows = expert.0.forward(match self.weighs {
            Weighs::Output => x,
            Weighs::Input => {
                let weights = TensorData::new(rows.weights.clone(), [rows.weights.len(), 1]);
                x * Tensor::from_data(weights, &self.input.device())
            }
        });
        Some(ExpertOutput { at, rows })
    }

    /// Adds it to the sum of its rows. Sums round the same way whenever outputs are added in the same order.
    pub fn add(&self, output: ExpertOutput<B>) {
        let ExpertRows { tokens, weights, .. } = &self.by_expert[output.at];
        let ones = || vec![1.0; tokens.len()];
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        // The sum is taken out while it changes, so that the backend can add in place.
        let before = std::mem::replace(&mut *sum, Tensor::empty([0, 0], &self.input.device()));
        *sum = match self.weighs {
            Weighs::Output => B::scatter_add(before, output.rows, tokens, weights),
            Weighs::Input => B::scatter_add(before, output.rows, tokens, &ones()),
        };
    }
}
