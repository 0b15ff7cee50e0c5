//! Softmax attention over packed samples.

use burn::tensor::{Tensor, s};
use sli_core::{
    AttentionSpec, KeyValues, Mask, PositionSpec, Prompt, PromptSpan, Result, Temperature, TensorRole,
};
use sli_kernels::{Activation, Attention, Bias, Precision};

use crate::backend::SliBackend;
use crate::carried::Carried;
use crate::context::{ChunkContext, EncoderOutput};
use crate::key_bias::KeyBias;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;
use crate::qk_norm::QkNorms;
use crate::rope::RopeTable;
use crate::score_bias::ScoreBias;

/// Attention with its weights: over the sample itself, or over the encoder's output.
#[derive(Clone, Debug)]
pub struct AttentionLayer<B: SliBackend> {
    spec: AttentionSpec,
    precision: Precision,
    query: Linear<B>,
    /// `None` where an earlier layer's keys and values are used.
    key: Option<Linear<B>>,
    /// `None` also where the values are the keys.
    value: Option<Linear<B>>,
    value_norm: Option<Norm<B>>,
    output: Linear<B>,
    qk_norm: Option<QkNorms<B>>,
    output_norm: Option<Norm<B>>,
    gate: Option<Linear<B>>,
    score_bias: ScoreBias,
    /// By position.
    rotations: Option<RopeTable>,
    key_bias: Option<KeyBias<B>>,
    /// A logit per head that takes part in the denominator only.
    sinks: Option<Vec<f32>>,
}

impl<B: SliBackend> AttentionLayer<B> {
    /// Attention of a sample over itself.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &AttentionSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{AttnK, AttnOut, AttnQ, AttnV};
        let mut layer = Self::with_roles(spec, loader, [AttnQ, AttnK, AttnV, AttnOut])?;
        if let Some(kind) = spec.qk_norm {
            layer.qk_norm = Some(QkNorms::load(kind, spec, loader)?);
        }
        if let KeyValues::NormedValues { norm, .. } = spec.key_values {
            let norm = Norm::load(norm, loader, TensorRole::AttnVNorm)?;
            layer.value_norm = Some(norm.over(spec.value_dim));
        }
        if spec.sinks {
            layer.sinks = Some(loader.values(TensorRole::AttnSinks)?);
        }
        if let Some(norm) = spec.output_norm {
            layer.output_norm = Some(Norm::load(norm, loader, TensorRole::AttnOutNorm)?);
        }
        if let Some(gate) = spec.gate {
            layer.gate = Some(Linear::new(loader, TensorRole::AttnGate, gate.bias)?);
        }
        if let PositionSpec::RotationTable { .. } = spec.position {
            layer.rotations = Some(RopeTable::stored(loader.tensors.weight(TensorRole::RotationTable)?));
        }
        let projections = [Some(&layer.query), layer.key.as_ref()];
        layer.score_bias = ScoreBias::load(spec, projections, loader)?;
        if let Mask::Dynamic { most, window } = spec.mask {
            // A window has no more keys than are seen.
            let most = window.map_or(most, |_| usize::MAX);
            layer.key_bias = Some(KeyBias::load(spec.bias.value, most, loader)?);
        }
        Ok(layer)
    }

    /// The same with low-rank additions to queries, keys and values.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn adapted(self, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{KeyAdapter, KeyAdapterDown, QueryAdapter, QueryAdapterDown};
        use TensorRole::{ValueAdapter, ValueAdapterDown};
        let adapted = |linear: Linear<B>, roles| linear.adapted(loader, roles);
        let adapt =
            |linear: Option<Linear<B>>, roles| linear.map(|linear| adapted(linear, roles)).transpose();
        Ok(Self {
            query: adapted(self.query, [QueryAdapterDown, QueryAdapter])?,
            key: adapt(self.key, [KeyAdapterDown, KeyAdapter])?,
            value: adapt(self.value, [ValueAdapterDown, ValueAdapter])?,
            ..self
        })
    }

    /// Attention over the encoder's output.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn cross(spec: &AttentionSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{CrossK, CrossOut, CrossQ, CrossV};
        Self::with_roles(spec, loader, [CrossQ, CrossK, CrossV, CrossOut])
    }

    fn with_roles(
        spec: &AttentionSpec,
        loader: &Loader<B>,
        [query, key, value, output]: [TensorRole; 4],
    ) -> Result<Self> {
        let linear = |role, bias| Linear::new(loader, role, bias);
        Ok(Self {
            query: linear(query, spec.bias.query)?,
            key: spec.key_values.has_keys().then(|| linear(key, spec.bias.key)).transpose()?,
            value: spec.key_values.has_values().then(|| linear(value, spec.bias.value)).transpose()?,
            value_norm: None,
            output: linear(output, spec.bias.output)?,
            spec: spec.clone(),
            precision: loader.precision,
            qk_norm: None,
            sinks: None,
            output_norm: None,
            gate: None,
            score_bias: ScoreBias::None,
            rotations: None,
            key_bias: None,
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], each sample looking at itself.
    pub fn forward(
        &self,
        x: Tensor<B, 2>,
        carried: &mut Carried<B>,
        context: &ChunkContext<'_, B>,
    ) -> Tensor<B, 2> {
        let spec = &self.spec;
        let table = self.rotation(context);
        let query_norm = self.qk_norm.as_ref().map(|norms| &norms.query);
        let mut query =
            self.placed(self.query.forward(x.clone()), spec.num_heads, query_norm, table.as_ref());
        let gate = self.gate.as_ref().map(|gate| gate.forward(x.clone()));
        let (key, value) = self.key_values(x, carried, table.as_ref());
        match spec.temperature {
            // Their bounded scores grow instead.
            None | Some(Temperature::LogScores { .. }) => {}
            Some(temperature) => {
                query = query * context.per_position(|position| temperature.factor(position) as f32);
            }
        }
        let mixed = match (&spec.mask, &self.key_bias) {
            (Mask::Prompt(prompt), _) => self.attend_prompts(*prompt, query, key, value, context),
            (_, Some(bias)) => {
                bias.attend(&self.kernel(Bias::None), query, key, value, context.offsets, self.precision)
            }
            _ => self.attend(query, key, value, context.offsets, context.offsets, context.longest_sample()),
        };
        let mixed = match &self.output_norm {
            Some(norm) => norm.forward(mixed),
            None => mixed,
        };
        self.output.forward(match gate {
            Some(gate) => B::gated_nonlinearity(Activation::Sigmoid, gate, mixed),
            None => mixed,
        })
    }

    /// Queries, keys or values, kept within bounds where the spec has some.
    fn clipped(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self.spec.clip {
            Some(clip) => x.clamp(-clip, clip),
            None => x,
        }
    }

    /// Keys and values, [tokens, kv heads * dim] each: the layer's own, or those that an earlier one kept.
    fn key_values(
        &self,
        x: Tensor<B, 2>,
        carried: &mut Carried<B>,
        table: Option<&RopeTable>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let spec = &self.spec;
        let Some(key) = &self.key else {
            let KeyValues::Reused { slot } = spec.key_values else { unreachable!("keys are projected") };
            return (carried.get(&format!("keys.{slot}")), carried.get(&format!("values.{slot}")));
        };
        let key = key.forward(x.clone());
        let value = match &self.value {
            Some(value) => value.forward(x),
            None => key.clone(),
        };
        let value = self.clipped(match (&self.value_norm, spec.key_values) {
            (Some(norm), _) => norm.forward(value),
            (None, KeyValues::ScaledValues { scale }) => value * scale,
            (None, KeyValues::RotatedValues) => ChunkContext::rotated(value, spec.num_kv_heads, table),
            (None, _) => value,
        });
        let key_norm = self.qk_norm.as_ref().and_then(|norms| norms.key.as_ref());
        let key = self.placed(key, spec.num_kv_heads, key_norm, table);
        if let KeyValues::NormedValues { kept: Some(slot), .. } = spec.key_values {
            carried.put(format!("keys.{slot}"), key.clone());
            carried.put(format!("values.{slot}"), value.clone());
        }
        (key, value)
    }

    /// Queries or keys, normed, clipped and rotated.
    fn placed(
        &self,
        x: Tensor<B, 2>,
        heads: usize,
        norm: Option<&Norm<B>>,
        table: Option<&RopeTable>,
    ) -> Tensor<B, 2> {
        let after = self.qk_norm.as_ref().is_some_and(|norms| norms.after_rotation);
        let normed = |x, here: bool| match norm.filter(|_| here) {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let x = self.clipped(normed(x, !after));
        let x = match table {
            Some(table) => B::rotate(x, heads, table),
            None => x,
        };
        normed(x, after)
    }

    /// The angles of each token, where queries and keys are rotated.
    fn rotation(&self, context: &ChunkContext<'_, B>) -> Option<RopeTable> {
        match &self.spec.position {
            PositionSpec::RopeInBlocks { rope, prompt } => {
                let (text, answer) =
                    block_positions(context.samples().map(|ids| (ids.len(), span(prompt, ids))));
                let table =
                    |positions: &[u32]| context.rope.for_tokens(rope, context.offsets, Some(positions));
                Some(table(&text).beside(&table(&answer)))
            }
            PositionSpec::RotationTable { .. } => {
                self.rotations.as_ref().map(|table| table.for_tokens(context.offsets, context.positions))
            }
            position => context.rotation(position),
        }
    }

    /// Attention sample by sample, since each has a mask of its own.
    fn attend_prompts(
        &self,
        prompt: Prompt,
        query: Tensor<B, 2>,
        key: Tensor<B, 2>,
        value: Tensor<B, 2>,
        context: &ChunkContext<'_, B>,
    ) -> Tensor<B, 2> {
        let samples = context.samples().zip(context.offsets.windows(2));
        let mixed = samples.filter(|(ids, _)| !ids.is_empty()).map(|(ids, rows)| {
            let of_sample = |x: &Tensor<B, 2>| x.clone().slice(s![rows[0]..rows[1], ..]);
            let offsets = [0, ids.len()];
            let mask = sli_kernels::Mask::Prefix(span(&prompt, ids).length);
            let attention = Attention { mask, ..self.kernel(Bias::None) };
            let (query, key, value) = (of_sample(&query), of_sample(&key), of_sample(&value));
            B::packed_attention(&attention, query, key, value, &offsets, &offsets, self.precision)
        });
        Tensor::cat(mixed.collect(), 0)
    }

    /// [tokens, hidden] -> [tokens, hidden], each sample looking at its encoder output.
    pub fn forward_cross(
        &self,
        x: Tensor<B, 2>,
        encoder: &EncoderOutput<B>,
        context: &ChunkContext<'_, B>,
    ) -> Tensor<B, 2> {
        let query = self.query.forward(x);
        let of_encoder = |linear: &Option<Linear<B>>| match linear {
            Some(linear) => linear.forward(encoder.hidden.clone()),
            None => unreachable!("keys and values of the encoder are projected"),
        };
        let (key, value) = (of_encoder(&self.key), of_encoder(&self.value));
        self.output.forward(self.attend(query, key, value, context.offsets, &encoder.offsets, 0))
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
        let bias = self.score_bias.within(longest_sample);
        let sharpness = self.sharpness(longest_sample);
        let attention = Attention { sharpness: sharpness.as_deref(), ..self.kernel(bias.kernel()) };
        B::packed_attention(&attention, query, key, value, query_offsets, key_offsets, self.precision)
    }

    /// What the bounded scores of each position are multiplied by, where some of a sample's grow.
    fn sharpness(&self, longest_sample: usize) -> Option<Vec<f32>> {
        match self.spec.temperature {
            Some(temperature @ Temperature::LogScores { original_length })
                if longest_sample > original_length =>
            {
                Some((0..longest_sample).map(|position| temperature.factor(position) as f32).collect())
            }
            _ => None,
        }
    }

    /// The shape and the rules of the attention. Prompts are found sample by sample.
    fn kernel<'a>(&'a self, bias: Bias<'a>) -> Attention<'a> {
        let spec = &self.spec;
        Attention {
            num_heads: spec.num_heads,
            num_kv_heads: spec.num_kv_heads,
            head_dim: spec.head_dim,
            value_dim: spec.value_dim,
            scale: spec.scale as f32,
            softcap: spec.softcap.map(|cap| cap as f32),
            sharpness: None,
            mask: kernel_mask(spec.mask),
            bias,
            sinks: self.sinks.as_deref(),
        }
    }
}

/// Which keys a query sees, as the kernel says it.
pub(crate) fn kernel_mask(mask: Mask) -> sli_kernels::Mask {
    match mask {
        Mask::Causal | Mask::Prompt(_) | Mask::Dynamic { window: None, .. } => sli_kernels::Mask::Causal,
        Mask::Sliding { window } | Mask::Dynamic { window: Some(window), .. } => {
            sli_kernels::Mask::CausalWindow(window)
        }
        Mask::Chunked { size } => sli_kernels::Mask::Chunked(size),
        Mask::Strided { block, local, stride, shift } => {
            sli_kernels::Mask::Strided { block, local, stride, shift }
        }
        Mask::Bidirectional => sli_kernels::Mask::Bidirectional,
        Mask::BidirectionalSliding { reach } => sli_kernels::Mask::BidirectionalWindow(reach),
    }
}

/// The prompt of a sample.
///
/// # Panics
/// When the sample has none.
fn span(prompt: &Prompt, ids: &[u32]) -> PromptSpan {
    prompt.find(ids).unwrap_or_else(|lacking| panic!("checked when the dataset was read: {lacking}"))
}

/// Where each token stands in the text, and how far it is into the answer, for samples of these lengths.
fn block_positions(samples: impl Iterator<Item = (usize, PromptSpan)>) -> (Vec<u32>, Vec<u32>) {
    let of_sample = |(tokens, span): (usize, PromptSpan)| {
        (0..tokens).map(move |token| match token.checked_sub(span.length) {
            None => (token as u32, 0),
            Some(behind) => (span.blank as u32, behind as u32 + 1),
        })
    };
    samples.flat_map(of_sample).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the description of the released code: a text with its blank at the end, and one with a blank inside.
    #[test]
    fn answers_count_from_one_at_the_place_of_the_blank() {
        let spans = [(6, PromptSpan { length: 4, blank: 3 }), (3, PromptSpan { length: 2, blank: 0 })];
        let (text, answer) = block_positions(spans.into_iter());
        assert_eq!(text, [0, 1, 2, 3, 3, 3, 0, 1, 0]);
        assert_eq!(answer, [0, 0, 0, 0, 1, 2, 0, 0, 1]);
    }
}
