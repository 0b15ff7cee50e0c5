//! Softmax attention over packed samples.

use burn::tensor::{Device, Tensor};
use sli_core::{AttentionSpec, Mask, PositionSpec, QkNorm, Result, TensorRole};
use sli_kernels::{Attention, Bias, Precision};

use crate::backend::SliBackend;
use crate::context::{ChunkContext, EncoderOutput};
use crate::linear::Linear;
use crate::norm::Norm;
use crate::relative_bias::RelativeBias;
use crate::tensors::LayerTensors;

/// Attention with its weights: over the sample itself, or over the encoder's output.
#[derive(Clone, Debug)]
pub struct AttentionLayer<B: SliBackend> {
    spec: AttentionSpec,
    precision: Precision,
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    output: Linear<B>,
    qk_norm: Option<[Norm<B>; 2]>,
    relative_bias: Option<RelativeBias>,
}

impl<B: SliBackend> AttentionLayer<B> {
    /// Attention of a sample over itself.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(
        spec: &AttentionSpec,
        tensors: &LayerTensors,
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        use TensorRole::{AttnK, AttnOut, AttnQ, AttnV};
        let mut layer = Self::with_roles(spec, tensors, [AttnQ, AttnK, AttnV, AttnOut], precision, device)?;
        if let Some(QkNorm::PerHead(norm)) = spec.qk_norm {
            let query = Norm::load(norm, tensors, TensorRole::AttnQNorm, device)?;
            let key = Norm::load(norm, tensors, TensorRole::AttnKNorm, device)?;
            layer.qk_norm = Some([query, key]);
        }
        if let PositionSpec::RelativeBias { max_distance, bidirectional, .. } = spec.position {
            let table = tensors.weight(TensorRole::RelativeBias)?;
            layer.relative_bias = Some(RelativeBias::new(table, max_distance, bidirectional));
        }
        Ok(layer)
    }

    /// Attention over the encoder's output.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn cross(
        spec: &AttentionSpec,
        tensors: &LayerTensors,
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        use TensorRole::{CrossK, CrossOut, CrossQ, CrossV};
        Self::with_roles(spec, tensors, [CrossQ, CrossK, CrossV, CrossOut], precision, device)
    }

    fn with_roles(
        spec: &AttentionSpec,
        tensors: &LayerTensors,
        [query, key, value, output]: [TensorRole; 4],
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        let linear = |role, bias| Linear::new(tensors, role, bias, precision, device);
        Ok(Self {
            query: linear(query, spec.bias.query)?,
            key: linear(key, spec.bias.key)?,
            value: linear(value, spec.bias.value)?,
            output: linear(output, spec.bias.output)?,
            spec: spec.clone(),
            precision,
            qk_norm: None,
            relative_bias: None,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], each sample looking at itself.
    pub fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let spec = &self.spec;
        let mut query = self.query.forward(x.clone());
        let mut key = self.key.forward(x.clone());
        let value = self.value.forward(x);
        if let Some([query_norm, key_norm]) = &self.qk_norm {
            (query, key) = (query_norm.forward(query), key_norm.forward(key));
        }
        if let PositionSpec::Rope(rope) = &spec.position {
            let table = context.rope.for_tokens(rope, context.offsets, context.positions);
            query = B::rotate(query, spec.num_heads, &table);
            key = B::rotate(key, spec.num_kv_heads, &table);
        }
        self.attend(query, key, value, context.offsets, context.offsets, context.longest_sample())
    }

    /// [tokens, hidden] -> [tokens, hidden], each sample looking at its encoder output.
    pub fn forward_cross(
        &self,
        x: Tensor<B, 2>,
        encoder: &EncoderOutput<B>,
        context: &ChunkContext<'_, B>,
    ) -> Tensor<B, 2> {
        let query = self.query.forward(x);
        let key = self.key.forward(encoder.hidden.clone());
        let value = self.value.forward(encoder.hidden.clone());
        self.attend(query, key, value, context.offsets, &encoder.offsets, 0)
    }

    fn attend(
        &self,
        query: Tensor<B, 2>,
        key: Tensor<B, 2>,
        value: Tensor<B, 2>,
        query_offsets: &[usize],
        key_offsets: &[usize],
        longest_sample: usize,
    ) -> Tensor<B, 2> {
        let spec = &self.spec;
        let distances = self.relative_bias.as_ref().map(|bias| bias.by_distance(longest_sample));
        let attention = Attention {
            num_heads: spec.num_heads,
            num_kv_heads: spec.num_kv_heads,
            head_dim: spec.head_dim,
            value_dim: spec.value_dim,
            scale: spec.scale as f32,
            softcap: spec.softcap.map(|cap| cap as f32),
            mask: match spec.mask {
                Mask::Causal => sli_kernels::Mask::Causal,
                Mask::Sliding { window } => sli_kernels::Mask::CausalWindow(window),
                Mask::Bidirectional => sli_kernels::Mask::Bidirectional,
            },
            bias: distances.as_ref().map_or(Bias::None, |d| Bias::Distance {
                table: &d.values,
                span: d.span,
                first: d.first,
            }),
            sinks: None,
        };
        let mixed =
            B::packed_attention(&attention, query, key, value, query_offsets, key_offsets, self.precision);
        self.output.forward(mixed)
    }
}
