//! The mixer of Mamba (Gu and Dao 2023, section 3).

use burn::tensor::{Device, Tensor, s};
use sli_core::{Mamba1Spec, Result, TensorRole};
use sli_kernels::{Activation, Precision};

use crate::backend::{Scan, SliBackend, table, vector};
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::tensors::LayerTensors;

/// in -> (x, gate); x -> convolution -> scan; out(y * silu(gate)).
#[derive(Clone, Debug)]
pub struct MambaLayer<B: SliBackend> {
    spec: Mamba1Spec,
    input: Linear<B>,
    conv_weight: Tensor<B, 2>,
    conv_bias: Option<Tensor<B, 1>>,
    /// x -> (step size of low rank, B, C).
    selection: Linear<B>,
    step: Linear<B>,
    /// -exp(A_log), [channels, state].
    a: Tensor<B, 2>,
    d: Tensor<B, 1>,
    output: Linear<B>,
}

impl<B: SliBackend> MambaLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(
        spec: &Mamba1Spec,
        tensors: &LayerTensors,
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        let linear = |role, bias| Linear::new(tensors, role, bias, precision, device);
        let conv_bias = tensors.bias_if(TensorRole::SsmConv, spec.conv_bias)?;
        Ok(Self {
            input: linear(TensorRole::SsmIn, spec.projection_bias)?,
            conv_weight: table(tensors.weight(TensorRole::SsmConv)?, device),
            conv_bias: conv_bias.map(|bias| vector(bias, device)),
            selection: linear(TensorRole::SsmX, false)?,
            step: linear(TensorRole::SsmDt, true)?,
            a: table(tensors.weight(TensorRole::SsmALog)?, device).exp().neg(),
            d: vector(tensors.weight(TensorRole::SsmD)?, device),
            output: linear(TensorRole::SsmOut, spec.projection_bias)?,
            spec: *spec,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], the state starting at zero in each sample.
    pub fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let Mamba1Spec { inner_size, state_size, dt_rank, .. } = self.spec;
        let projected = self.input.forward(x); // [tokens, 2 * inner]
        let x = projected.clone().slice(s![.., 0..inner_size]);
        let gate = projected.slice(s![.., inner_size..]);

        let x = B::causal_convolution(x, &self.conv_weight, self.conv_bias.as_ref(), context.offsets);
        let x = B::nonlinearity(Activation::Silu, x);

        let selected = self.selection.forward(x.clone()); // [tokens, dt_rank + 2 * state]
        let delta = self.step.forward(selected.clone().slice(s![.., 0..dt_rank]));
        let scan = Scan {
            x,
            delta: B::nonlinearity(Activation::Softplus, delta),
            b: selected.clone().slice(s![.., dt_rank..dt_rank + state_size]),
            c: selected.slice(s![.., dt_rank + state_size..]),
        };
        let y = B::selective_scan(scan, &self.a, &self.d, context.offsets);
        self.output.forward(B::gated_nonlinearity(Activation::Silu, gate, y))
    }
}
