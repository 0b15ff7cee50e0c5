//! The mixer of Mamba (Gu and Dao 2023, section 3).

use burn::tensor::{Tensor, s};
use sli_core::{Mamba1Spec, NormSpec, Result, TensorRole};
use sli_kernels::Activation;

use crate::backend::{Scan, SliBackend};
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mlp::kernel_activation;
use crate::norm::Norm;

/// in -> (x, gate); x -> convolution -> scan; out(y * silu(gate)).
#[derive(Clone, Debug)]
pub struct MambaLayer<B: SliBackend> {
    spec: Mamba1Spec,
    input: Linear<B>,
    conv_weight: Tensor<B, 2>,
    conv_bias: Option<Tensor<B, 1>>,
    /// Of all heads, whose channels lie side by side.
    heads: Vec<Selection<B>>,
    norms: Option<SelectionNorms<B>>,
    output: Linear<B>,
}

/// How the channels of a head step, write and read.
#[derive(Clone, Debug)]
struct Selection<B: SliBackend> {
    /// x -> (step size of low rank, B, C).
    projection: Linear<B>,
    step: Linear<B>,
    /// -exp(A_log), [channels, state].
    a: Tensor<B, 2>,
    d: Tensor<B, 1>,
}

/// Norms of the step size while it is narrow, of B and of C.
#[derive(Clone, Debug)]
struct SelectionNorms<B: SliBackend> {
    step: Norm<B>,
    write: Norm<B>,
    read: Norm<B>,
}

impl<B: SliBackend> MambaLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &Mamba1Spec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{SsmALog, SsmConv, SsmD, SsmDt, SsmIn, SsmOut, SsmX};
        let linear = |role, bias| Linear::new(loader, role, bias);
        let head = |h: u32| {
            Ok(Selection {
                projection: linear(SsmX(h), false)?,
                step: linear(SsmDt(h), true)?,
                a: loader.table(SsmALog(h))?.exp().neg(),
                d: loader.vector(SsmD(h))?,
            })
        };
        Ok(Self {
            input: linear(SsmIn, spec.projection_bias)?,
            conv_weight: loader.table(SsmConv)?,
            conv_bias: loader.bias_if(SsmConv, spec.conv_bias)?,
            heads: (0..spec.num_heads as u32).map(head).collect::<Result<_>>()?,
            norms: spec.selection_norm.map(|norm| SelectionNorms::load(norm, loader)).transpose()?,
            output: linear(SsmOut, spec.projection_bias)?,
            spec: *spec,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], the state starting at zero in each sample.
    pub fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let inner_size = self.spec.inner_size;
        let projected = self.input.forward(x); // [tokens, 2 * inner]
        let x = projected.clone().slice(s![.., 0..inner_size]);
        let gate = projected.slice(s![.., inner_size..]);

        let x = B::causal_convolution(x, &self.conv_weight, self.conv_bias.as_ref(), context.offsets);
        let x = B::nonlinearity(kernel_activation(self.spec.activation), x);
        let y = match &self.heads[..] {
            [all] => self.scan(all, x, context.offsets),
            heads => {
                let width = inner_size / heads.len();
                let of_head = |h: usize| x.clone().slice(s![.., h * width..(h + 1) * width]);
                let scanned = heads.iter().enumerate();
                let scanned = scanned.map(|(h, head)| self.scan(head, of_head(h), context.offsets));
                Tensor::cat(scanned.collect(), 1)
            }
        };
        self.output.forward(B::gated_nonlinearity(Activation::Silu, gate, y))
    }

    /// [tokens, channels of a head] -> the same shape.
    fn scan(&self, head: &Selection<B>, x: Tensor<B, 2>, offsets: &[usize]) -> Tensor<B, 2> {
        let Mamba1Spec { state_size, dt_rank, .. } = self.spec;
        let selected = head.projection.forward(x.clone()); // [tokens, dt_rank + 2 * state]
        let mut step = selected.clone().slice(s![.., 0..dt_rank]);
        let mut b = selected.clone().slice(s![.., dt_rank..dt_rank + state_size]);
        let mut c = selected.slice(s![.., dt_rank + state_size..]);
        if let Some(norms) = &self.norms {
            (step, b, c) = (norms.step.forward(step), norms.write.forward(b), norms.read.forward(c));
        }
        let delta = B::nonlinearity(Activation::Softplus, head.step.forward(step));
        B::selective_scan(Scan { x, delta, b, c }, &head.a, &head.d, offsets)
    }
}

impl<B: SliBackend> SelectionNorms<B> {
    fn load(spec: NormSpec, loader: &Loader<B>) -> Result<Self> {
        let norm = |role| Norm::load(spec, loader, role);
        Ok(Self {
            step: norm(TensorRole::SsmStepNorm)?,
            write: norm(TensorRole::SsmWriteNorm)?,
            read: norm(TensorRole::SsmReadNorm)?,
        })
    }
}
