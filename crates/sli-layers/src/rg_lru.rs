//! The recurrent block of Griffin (De et al. 2024, section 2.3).

use burn::tensor::{Device, Tensor, TensorData, s};
use sli_core::{HostTensor, Result, RgLruSpec, TensorRole};
use sli_kernels::Activation;

use crate::backend::{SliBackend, vector};
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mlp::kernel_activation;

/// out(h * act(gate(x))), where h is the recurrence over the convolution of in(x).
#[derive(Clone, Debug)]
pub(crate) struct RgLruLayer<B: SliBackend> {
    spec: RgLruSpec,
    gate: Linear<B>,
    input: Linear<B>,
    conv_weight: Tensor<B, 2>,
    conv_bias: Tensor<B, 1>,
    input_gate: BlockGate<B>,
    fade_gate: BlockGate<B>,
    /// -8 softplus(d) for each channel: the logarithm of what is left where the gate is open.
    fade: Tensor<B, 1>,
    output: Linear<B>,
}

/// sigmoid(W x + b), where each block of channels sees itself only.
#[derive(Clone, Debug)]
struct BlockGate<B: SliBackend> {
    /// [blocks, in, out].
    weight: Tensor<B, 3>,
    /// [blocks * out].
    bias: Tensor<B, 1>,
}

impl<B: SliBackend> RgLruLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &RgLruSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{LruConv, LruFade, LruFadeGate, LruGate, LruIn, LruInputGate, LruOut};
        let linear = |role| Linear::new(loader, role, true);
        let gate = |role: TensorRole| {
            let (weight, bias) = (loader.tensors.weight(role)?, loader.tensors.get(role.bias())?);
            Ok::<_, sli_core::SliError>(BlockGate::new(weight, bias, spec.num_blocks, loader.device))
        };
        let fade = loader.vector(LruFade)?.reshape([1, spec.width]);
        Ok(Self {
            gate: linear(LruGate)?,
            input: linear(LruIn)?,
            conv_weight: loader.table(LruConv)?,
            conv_bias: loader.bias(LruConv)?,
            input_gate: gate(LruInputGate)?,
            fade_gate: gate(LruFadeGate)?,
            fade: (B::nonlinearity(Activation::Softplus, fade) * -8.0).reshape([spec.width]),
            output: linear(LruOut)?,
            spec: *spec,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], the state starting at zero in each sample.
    pub(crate) fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let gate = self.gate.forward(x.clone());
        let x = self.input.forward(x); // [tokens, width]
        let x = B::causal_convolution(x, &self.conv_weight, Some(&self.conv_bias), context.offsets);
        let log_kept = self.fade_gate.forward(x.clone()) * self.fade.clone().unsqueeze();
        let taken = ((log_kept.clone() * 2.0).exp().neg() + 1.0).sqrt();
        // Nothing is kept from before a sample, and its first token is taken in whole.
        let first = first_tokens::<B>(context.offsets, context.device);
        let later = first.clone().neg() + 1.0;
        let kept = log_kept.exp() * later.clone();
        let taken_in = self.input_gate.forward(x.clone()) * x * (taken * later + first);
        let state = linear_recurrence::<B>(kept, taken_in, context.longest_sample());
        self.output.forward(B::gated_nonlinearity(kernel_activation(self.spec.activation), gate, state))
    }
}

impl<B: SliBackend> BlockGate<B> {
    fn new(weight: &HostTensor, bias: &HostTensor, blocks: usize, device: &Device<B>) -> Self {
        let size = bias.len() / blocks;
        let weight = TensorData::new(weight.to_f32().into_owned(), [blocks, size, size]);
        Self { weight: Tensor::from_data(weight, device), bias: vector(bias, device) }
    }

    /// [tokens, width] -> [tokens, width]. In f32, as scans are.
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let ([tokens, width], [blocks, size, _]) = (x.dims(), self.weight.dims());
        let by_block: Tensor<B, 3> = x.reshape([tokens, blocks, size]).swap_dims(0, 1);
        let logits = by_block.matmul(self.weight.clone()).swap_dims(0, 1).reshape([tokens, width]);
        B::nonlinearity(Activation::Sigmoid, logits + self.bias.clone().unsqueeze())
    }
}

/// One for each sample's first token and zero for the others, [tokens, 1].
fn first_tokens<B: SliBackend>(offsets: &[usize], device: &Device<B>) -> Tensor<B, 2> {
    let mut first = vec![0.0; offsets.last().copied().unwrap_or(0)];
    offsets.windows(2).filter(|sample| sample[1] > sample[0]).for_each(|sample| first[sample[0]] = 1.0);
    B::from_host(first, 1, device)
}

/// h_t = kept_t h_(t-1) + x_t, channel by channel, where nothing is kept at the first of at most `longest` tokens.
///
/// By doubling (Hillis and Steele 1986): once h_t and the product of kept_t each cover the `span` tokens up to t, they
/// are joined with those of token t - span.
fn linear_recurrence<B: SliBackend>(
    mut kept: Tensor<B, 2>,
    mut h: Tensor<B, 2>,
    longest: usize,
) -> Tensor<B, 2> {
    let [tokens, width] = h.dims();
    let mut span = 1;
    while span < longest.min(tokens) {
        let before = Tensor::zeros([span, width], &h.device());
        let earlier = |x: &Tensor<B, 2>| {
            Tensor::cat(vec![before.clone(), x.clone().slice(s![0..tokens - span, ..])], 0)
        };
        h = h.clone() + kept.clone() * earlier(&h);
        kept = kept.clone() * earlier(&kept);
        span *= 2;
    }
    h
}

#[cfg(test)]
mod tests {
    use burn::backend::NdArray;

    use super::*;

    #[test]
    fn doubling_agrees_with_one_token_after_the_other() {
        let (kept, x) = ([0.0, 0.5, 0.9, 0.3, 0.8, 0.0, 0.7], [1.0, 2.0, -1.0, 4.0, 0.5, 3.0, -2.0]);
        let mut expected = Vec::new();
        for (kept, x) in kept.iter().zip(x) {
            expected.push(kept * expected.last().copied().unwrap_or(0.0) + x);
        }
        let column = |values: &[f32]| NdArray::from_host(values.to_vec(), 1, &Default::default());
        let h = NdArray::<f32>::to_host(linear_recurrence::<NdArray>(column(&kept), column(&x), 5));
        assert!(
            h.iter().zip(&expected).all(|(a, b): (&f32, &f32)| (a - b).abs() < 1e-6),
            "{h:?} {expected:?}"
        );
    }

    #[test]
    fn samples_begin_at_their_offsets() {
        let first = first_tokens::<NdArray>(&[0, 2, 2, 5], &Default::default());
        assert_eq!(NdArray::<f32>::to_host(first), [1.0, 0.0, 1.0, 0.0, 0.0]);
    }
}
