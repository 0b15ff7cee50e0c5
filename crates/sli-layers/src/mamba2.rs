//! The mixer of Mamba-2 (Dao and Gu 2024, section 7).

use burn::tensor::{Device, Tensor, TensorData, s};
use sli_core::{Mamba2Spec, Result, TensorRole};
use sli_kernels::Activation;

use crate::backend::{HeadScanShape, SliBackend};
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mlp::kernel_activation;
use crate::norm::Norm;

/// in -> (gate, x, b, c, step); x, b, c -> convolution -> scan; out(norm(y * silu(gate))).
#[derive(Clone, Debug)]
pub struct Mamba2Layer<B: SliBackend> {
    spec: Mamba2Spec,
    input: Linear<B>,
    /// What each projected value is multiplied by.
    multipliers: Option<Tensor<B, 1>>,
    conv_weight: Tensor<B, 2>,
    conv_bias: Option<Tensor<B, 1>>,
    step_bias: Tensor<B, 1>,
    /// -exp(A_log) for each head.
    a: Tensor<B, 1>,
    d: Tensor<B, 1>,
    norm: Option<Norm<B>>,
    output: Linear<B>,
}

impl<B: SliBackend> Mamba2Layer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &Mamba2Spec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{SsmALog, SsmConv, SsmD, SsmDt, SsmIn, SsmNorm, SsmOut};
        let linear = |role, bias| Linear::new(loader, role, bias);
        let norm = |gated: sli_core::GatedNormSpec| {
            let norm = Norm::load(gated.norm, loader, SsmNorm)?;
            Ok::<_, sli_core::SliError>(norm.over(spec.inner_size() / spec.num_groups))
        };
        Ok(Self {
            input: linear(SsmIn, spec.input_bias)?,
            multipliers: spec.multipliers.map(|multipliers| spread(spec, multipliers, loader.device)),
            conv_weight: loader.table(SsmConv)?,
            conv_bias: loader.bias_if(SsmConv, spec.conv_bias)?,
            step_bias: loader.bias(SsmDt(0))?,
            a: loader.vector(SsmALog(0))?.exp().neg(),
            d: loader.vector(SsmD(0))?,
            norm: spec.norm.map(norm).transpose()?,
            output: linear(SsmOut, spec.output_bias)?,
            spec: *spec,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], the states starting at zero in each sample.
    pub fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let (inner, channels) = (self.spec.inner_size(), self.spec.conv_channels());
        let projected = self.input.forward(x); // [tokens, inner + channels + heads]
        let projected = match &self.multipliers {
            Some(multipliers) => projected * multipliers.clone().unsqueeze(),
            None => projected,
        };
        let gate = projected.clone().slice(s![.., 0..inner]);
        let input = projected.clone().slice(s![.., inner..inner + channels]);
        let step = projected.slice(s![.., inner + channels..]);

        let input = B::causal_convolution(input, &self.conv_weight, self.conv_bias.as_ref(), context.offsets);
        let input = B::nonlinearity(kernel_activation(self.spec.activation), input);
        let shape = HeadScanShape {
            head_dim: self.spec.head_dim,
            num_groups: self.spec.num_groups,
            state: self.spec.state_size,
        };
        let y = B::head_scan(shape, input, self.step(step), &self.a, &self.d, context.offsets);

        let gated = |y| B::gated_nonlinearity(Activation::Silu, gate, y);
        self.output.forward(match (&self.norm, self.spec.norm) {
            (Some(norm), Some(spec)) if spec.before_gate => gated(norm.forward(y)),
            (Some(norm), _) => norm.forward(gated(y)),
            (None, _) => gated(y),
        })
    }

    /// The step of each token and head, positive and within its bounds.
    fn step(&self, projected: Tensor<B, 2>) -> Tensor<B, 2> {
        let mut step = B::nonlinearity(Activation::Softplus, projected + self.step_bias.clone().unsqueeze());
        if let Some(min) = self.spec.min_step {
            step = step.clamp_min(min);
        }
        if let Some(max) = self.spec.max_step {
            step = step.clamp_max(max);
        }
        step
    }
}

/// A multiplier for each projected value, from those of gate, x, b, c and step.
fn spread<B: SliBackend>(spec: &Mamba2Spec, multipliers: [f64; 5], device: &Device<B>) -> Tensor<B, 1> {
    let (inner, shared) = (spec.inner_size(), spec.num_groups * spec.state_size);
    let widths = [inner, inner, shared, shared, spec.num_heads];
    let parts = multipliers.into_iter().zip(widths);
    let values: Vec<f32> =
        parts.flat_map(|(multiplier, width)| std::iter::repeat_n(multiplier as f32, width)).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}
