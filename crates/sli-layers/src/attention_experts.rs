//! Mixtures of attention heads over packed samples (Zhang et al. 2022; Shen et al. 2024, JetMoE).

use burn::tensor::Tensor;
use sli_core::{AttentionExpertsSpec, Result, TensorRole};
use sli_kernels::{Attention, Precision};
use sli_moe::{ExpertRows, route};

use crate::backend::SliBackend;
use crate::context::ChunkContext;
use crate::linear::Linear;
use crate::loader::Loader;

/// Experts of attention with their weights.
#[derive(Clone, Debug)]
pub(crate) struct AttentionExpertsLayer<B: SliBackend> {
    spec: AttentionExpertsSpec,
    precision: Precision,
    router: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    /// From the hidden state to an expert's queries, and from what they saw back to the hidden state.
    experts: Vec<(Linear<B>, Linear<B>)>,
    /// What is added to the sum, `[hidden]`.
    bias: Option<Tensor<B, 1>>,
}

impl<B: SliBackend> AttentionExpertsLayer<B> {
    /// Takes the mixer's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn new(spec: &AttentionExpertsSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{AttnExpertOut, AttnExpertQ, AttnK, AttnOut, AttnRouter, AttnV};
        let linear = |role, bias| Linear::new(loader, role, bias);
        let expert = |index| Ok((linear(AttnExpertQ(index), false)?, linear(AttnExpertOut(index), false)?));
        let bias = spec.attention.bias;
        Ok(Self {
            precision: loader.precision,
            // Routing is f32 always: a rounded logit could choose another expert.
            router: Linear::new(&loader.wide(), AttnRouter, spec.router.bias)?,
            key: linear(AttnK, bias.key)?,
            value: linear(AttnV, bias.value)?,
            experts: (0..spec.num_experts as u32).map(expert).collect::<Result<_>>()?,
            bias: loader.bias_if(AttnOut, bias.output)?,
            spec: spec.clone(),
        })
    }

    /// [tokens, hidden] -> [tokens, hidden], each sample looking at itself.
    pub(crate) fn forward(&self, x: Tensor<B, 2>, context: &ChunkContext<'_, B>) -> Tensor<B, 2> {
        let spec = &self.spec.attention;
        let table = context.rotation(&spec.position);
        let rotated = |x, heads| ChunkContext::rotated(x, heads, table.as_ref());
        let key = rotated(self.key.forward(x.clone()), spec.num_kv_heads);
        let value = self.value.forward(x.clone());

        let logits = B::to_host(self.router.forward(x.clone()));
        let routing = route(&logits, &self.spec.router, None, self.spec.num_experts);
        let mut sum = x.zeros_like();
        if let Some(bias) = &self.bias {
            sum = sum + bias.clone().unsqueeze();
        }
        // Every token's first choice looks back, then every token's second one.
        for choice in routing.by_choice() {
            let query = rotated(self.queries(&x, &choice), spec.num_heads);
            let mixed = self.attend(query, key.clone(), value.clone(), context.offsets);
            for ExpertRows { expert, tokens, weights } in &choice {
                let (_, output) = &self.experts[*expert as usize];
                sum = B::scatter_add(sum, output.forward(B::gather(&mixed, tokens)), tokens, weights);
            }
        }
        sum
    }

    /// The queries of each token by the expert that it chose, [tokens, heads * head_dim].
    fn queries(&self, x: &Tensor<B, 2>, choice: &[ExpertRows]) -> Tensor<B, 2> {
        let attention = &self.spec.attention;
        let width = attention.num_heads * attention.head_dim;
        let mut queries = Tensor::zeros([x.dims()[0], width], &x.device());
        for ExpertRows { expert, tokens, .. } in choice {
            let (query, _) = &self.experts[*expert as usize];
            let rows = query.forward(B::gather(x, tokens));
            queries = B::scatter_add(queries, rows, tokens, &vec![1.0; tokens.len()]);
        }
        queries
    }

    fn attend(
        &self,
        query: Tensor<B, 2>,
        key: Tensor<B, 2>,
        value: Tensor<B, 2>,
        offsets: &[usize],
    ) -> Tensor<B, 2> {
        let spec = &self.spec.attention;
        let attention = Attention {
            softcap: spec.softcap.map(|cap| cap as f32),
            ..Attention::causal(
                [spec.num_heads, spec.num_kv_heads],
                [spec.head_dim, spec.value_dim],
                spec.scale as f32,
            )
        };
        B::packed_attention(&attention, query, key, value, offsets, offsets, self.precision)
    }
}
