//! Softmax attention over queries and keys that a convolution mixes (Figliolia et al. 2025, section 3).

use burn::tensor::{Device, Tensor, TensorData, s};
use sli_core::{ConvolvedAttentionSpec, HostTensor, PositionSpec, Result, TensorRole};
use sli_kernels::{Attention, Precision};

use crate::attention::kernel_mask;
use crate::backend::SliBackend;
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::shift::shifted;

/// The mixer with its weights.
#[derive(Clone, Debug)]
pub(crate) struct ConvolvedAttentionLayer<B: SliBackend> {
    spec: ConvolvedAttentionSpec,
    precision: Precision,
    query: Linear<B>,
    key: Linear<B>,
    /// Of the token itself, and of the one before.
    value: [Linear<B>; 2],
    /// [channels, width], `[channels]`.
    channels: (Tensor<B, 2>, Tensor<B, 1>),
    /// [heads, in, out] for each tap, the oldest first, and `[channels]`.
    heads: (Vec<Tensor<B, 3>>, Tensor<B, 1>),
    /// [1, key heads, 1].
    key_scale: Tensor<B, 3>,
    output: Linear<B>,
}

impl<B: SliBackend> ConvolvedAttentionLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &ConvolvedAttentionSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{AttnK, AttnKScale, AttnOut, AttnQ, AttnV, AttnVBefore, ChannelTaps, HeadTaps};
        let bias = spec.attention.bias;
        let linear = |role, bias| Linear::new(loader, role, bias);
        let scale = loader.vector(AttnKScale)?;
        Ok(Self {
            query: linear(AttnQ, bias.query)?,
            key: linear(AttnK, bias.key)?,
            value: [linear(AttnV, bias.value)?, linear(AttnVBefore, bias.value)?],
            channels: (loader.table(ChannelTaps)?, loader.bias(ChannelTaps)?),
            heads: (taps(loader.tensors.weight(HeadTaps)?, spec, loader.device), loader.bias(HeadTaps)?),
            key_scale: scale.reshape([1, spec.attention.num_kv_heads, 1]),
            output: linear(AttnOut, bias.output)?,
            spec: spec.clone(),
            precision: loader.precision,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], each sample looking at itself.
    pub(crate) fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let (spec, tokens, offsets) = (&self.spec.attention, x.dims()[0], context.offsets);
        let (queries, keys, head_dim) = (spec.num_heads, spec.num_kv_heads, spec.head_dim);
        let (query, key) = (self.query.forward(x.clone()), self.key.forward(x.clone()));
        let mixed = self.convolved(Tensor::cat(vec![query.clone(), key.clone()], 1), offsets);

        // (q + k) / 2 for each query and the key it meets, and for each key the mean of these.
        let by_key = [tokens, keys, queries / keys, head_dim];
        let met = (query.reshape(by_key) + key.reshape([tokens, keys, 1, head_dim])) * 0.5;
        let width = queries * head_dim;
        let query = mixed.clone().slice(s![.., 0..width]).reshape(by_key) + met.clone();
        let key = mixed.slice(s![.., width..]).reshape([tokens, keys, head_dim])
            + met.mean_dim(2).reshape([tokens, keys, head_dim]);

        let mut query = of_length_root(query.reshape([tokens, queries, head_dim])).reshape([tokens, width]);
        let key = of_length_root(key) * self.key_scale.clone();
        let mut key = key.reshape([tokens, keys * head_dim]);
        if let PositionSpec::Rope(rope) = &spec.position {
            let table = context.rope.for_tokens(rope, offsets, context.positions);
            query = B::rotate(query, queries, &table);
            key = B::rotate(key, keys, &table);
        }
        let nothing = Tensor::zeros([1, x.dims()[1]], &x.device());
        let before = self.value[1].forward(shifted(x.clone(), nothing, 1, offsets));
        let value = Tensor::cat(vec![self.value[0].forward(x), before], 1);

        let attention = Attention {
            mask: kernel_mask(spec.mask),
            ..Attention::causal([queries, keys], [head_dim, head_dim], spec.scale as f32)
        };
        self.output.forward(B::packed_attention(
            &attention,
            query,
            key,
            value,
            offsets,
            offsets,
            self.precision,
        ))
    }

    /// Queries and keys after both convolutions: [tokens, channels] -> the same shape.
    fn convolved(&self, x: Tensor<B, 2>, offsets: &[usize]) -> Tensor<B, 2> {
        let (weight, bias) = &self.channels;
        let by_channel = B::causal_convolution(x, weight, Some(bias), offsets);
        let [tokens, channels] = by_channel.dims();
        let (taps, head_bias) = &self.heads;
        let mut sum = head_bias.clone().reshape([1, channels]).repeat_dim(0, tokens);
        for (tap, weight) in taps.iter().enumerate() {
            // Before a sample the first convolution sees nothing, and gives its bias.
            let lag = (taps.len() - 1 - tap) as isize;
            let rows = shifted(by_channel.clone(), bias.clone().reshape([1, channels]), lag, offsets);
            let rows = rows.reshape([tokens, self.spec.heads(), self.spec.attention.head_dim]);
            let product = rows.swap_dims(0, 1).matmul(weight.clone()); // [heads, tokens, head_dim]
            sum = sum + product.swap_dims(0, 1).reshape([tokens, channels]);
        }
        sum
    }
}

/// Stored as [channels, in, taps], a matrix [in, out] for each head and tap.
fn taps<B: SliBackend>(
    weight: &HostTensor,
    spec: &ConvolvedAttentionSpec,
    device: &Device<B>,
) -> Vec<Tensor<B, 3>> {
    let (heads, head_dim, width) = (spec.heads(), spec.attention.head_dim, spec.head_width);
    let data = TensorData::new(weight.to_f32().into_owned(), [heads, head_dim, head_dim, width]);
    let all = Tensor::<B, 4>::from_data(data, device); // [heads, out, in, taps]
    let matrix = |tap: usize| {
        let matrix = all.clone().slice(s![.., .., .., tap..tap + 1]).reshape([heads, head_dim, head_dim]);
        matrix.swap_dims(1, 2)
    };
    (0..width).map(matrix).collect()
}

/// Each head brought to the length sqrt(head_dim); one of length zero stays so.
fn of_length_root<B: SliBackend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let head_dim = x.dims()[2] as f64;
    let length = (x.clone() * x.clone()).sum_dim(2).sqrt().clamp_min(f64::from(f32::EPSILON));
    x * (length.recip() * head_dim.sqrt())
}
