//! Linear attention with a gated delta rule (Yang et al. 2024).

use burn::tensor::Tensor;
use sli_core::{DeltaNetSpec, Result, SliError, StateDecay, TensorRole};
use sli_kernels::DeltaRule;

use crate::backend::{DeltaInputs, SliBackend};
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mlp::kernel_activation;
use crate::norm::Norm;

/// Added to the squared length of queries and keys.
const LENGTH_EPS: f64 = 1e-6;

/// The mixer with its weights.
#[derive(Clone, Debug)]
pub struct DeltaNetLayer<B: SliBackend> {
    spec: DeltaNetSpec,
    query: Convolved<B>,
    key: Convolved<B>,
    value: Convolved<B>,
    decay: LowRank<B>,
    /// -exp(A_log) for each factor of decay.
    rate: Tensor<B, 1>,
    write: Linear<B>,
    gate: LowRank<B>,
    norm: Norm<B>,
    output: Linear<B>,
}

/// A projection, a causal convolution, a SiLU, and perhaps a norm of each head.
#[derive(Clone, Debug)]
struct Convolved<B: SliBackend> {
    linear: Linear<B>,
    convolution: Tensor<B, 2>,
    norm: Option<Norm<B>>,
}

/// A projection by one matrix or by two.
#[derive(Clone, Debug)]
struct LowRank<B: SliBackend> {
    down: Option<Linear<B>>,
    up: Linear<B>,
}

impl<B: SliBackend> DeltaNetLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &DeltaNetSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::*;
        let linear = |role, bias| Linear::new(loader, role, bias);
        let convolved = |role, conv, norm| {
            let convolution = loader.table(conv)?;
            Ok::<_, SliError>(Convolved { linear: linear(role, false)?, convolution, norm })
        };
        let low_rank = |[down, up]: [TensorRole; 2], rank: Option<usize>, bias| {
            let down = rank.map(|_| linear(down, false)).transpose()?;
            Ok::<_, SliError>(LowRank { down, up: linear(up, bias)? })
        };
        let decay_rank = match spec.decay {
            StateDecay::PerHead => None,
            StateDecay::PerChannel { rank } => Some(rank),
        };
        // Queries are also divided by the root of their width.
        let length = (spec.key_dim as f32).powf(-0.5);
        let rate: Tensor<B, 1> = loader.vector(DeltaALog)?.exp().neg();
        Ok(Self {
            query: convolved(
                DeltaQ,
                DeltaConvQ,
                Some(Norm::of_length(length, spec.key_dim, LENGTH_EPS, loader.device)),
            )?,
            key: convolved(
                DeltaK,
                DeltaConvK,
                Some(Norm::of_length(1.0, spec.key_dim, LENGTH_EPS, loader.device)),
            )?,
            value: convolved(DeltaV, DeltaConvV, None)?,
            decay: low_rank([DeltaDecayDown, DeltaDecay], decay_rank, true)?,
            rate: rate
                .reshape([spec.num_heads, 1])
                .repeat_dim(1, spec.num_decays() / spec.num_heads)
                .reshape([spec.num_decays()]),
            write: linear(DeltaWrite, false)?,
            gate: low_rank([DeltaGateDown, DeltaGate], spec.gate.rank, false)?,
            norm: Norm::load(spec.norm, loader, DeltaNorm)?,
            output: linear(DeltaOut, false)?,
            spec: *spec,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], the state starting at zero in each sample.
    pub fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let spec = &self.spec;
        let rule = DeltaRule {
            num_key_heads: spec.num_key_heads,
            num_heads: spec.num_heads,
            key_dim: spec.key_dim,
            value_dim: spec.value_dim,
            decays: spec.num_decays() / spec.num_heads,
        };
        let step = B::nonlinearity(sli_kernels::Activation::Softplus, self.decay.forward(x.clone()));
        let write = B::nonlinearity(sli_kernels::Activation::Sigmoid, self.write.forward(x.clone()));
        let inputs = DeltaInputs {
            query: self.query.forward(x.clone(), context.offsets),
            key: self.key.forward(x.clone(), context.offsets),
            value: self.value.forward(x.clone(), context.offsets),
            decay: (step * self.rate.clone().unsqueeze()).exp(),
            write: if spec.write_scale == 1.0 { write } else { write * spec.write_scale },
        };
        let read = B::delta_rule(&rule, inputs, context.offsets); // [tokens, heads * value_dim]
        let gate = self.gate.forward(x);
        let activation = kernel_activation(spec.gate.activation);
        self.output.forward(B::gated_nonlinearity(activation, gate, self.norm.forward(read)))
    }
}

impl<B: SliBackend> Convolved<B> {
    fn forward(&self, x: Tensor<B, 2>, offsets: &[usize]) -> Tensor<B, 2> {
        let x = B::causal_convolution(self.linear.forward(x), &self.convolution, None, offsets);
        let x = B::nonlinearity(sli_kernels::Activation::Silu, x);
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}

impl<B: SliBackend> LowRank<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.down {
            Some(down) => self.up.forward(down.forward(x)),
            None => self.up.forward(x),
        }
    }
}
