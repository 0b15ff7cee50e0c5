//! The embedding of a stack, chunk by chunk.

use std::time::Instant;

use burn::tensor::Tensor;
use sli_core::{EmbeddingSpec, Place, Result, Rows, TensorRole};
use sli_layers::{ChunkContext, SliBackend};

use crate::pipeline::{Pipeline, StageRun};

impl<B: SliBackend> Pipeline<'_, B> {
    /// Takes the rows of all tokens from the table of embeddings, from chunk `done` on.
    pub(super) fn run_embedding(&mut self, run: &mut StageRun, stack: usize, done: usize) -> Result<()> {
        let (model, samples) = (self.model, self.samples);
        let (spec, place) = (&model.spec.stacks[stack], Place::Embedding { stack });
        let embedding = self.factory.embedding(
            &spec.embedding,
            &self.small_tensors(place, &[TensorRole::TokenEmbedding, TensorRole::LayerInputTable])?,
        )?;
        let table = model.layout.slot(place, TensorRole::TokenEmbedding.weight())?;
        let start = Instant::now();
        let kept = self.plan.embedding_resident.then(|| model.layout.load_table(table)).transpose()?;
        run.read += start.elapsed();
        run.wait += start.elapsed();
        let device = self.factory.device().clone();
        for index in done..self.chunks.len() {
            let chunk = self.chunk(index, stack);
            let ids = samples.sequences(stack).ids(chunk.samples.clone());
            let start = Instant::now();
            let rows = match &kept {
                Some(kept) => kept.rows(ids)?,
                None => model.layout.read_rows(table, ids)?,
            };
            run.read += start.elapsed();
            run.wait += start.elapsed();
            let rows = B::from_host(
                rows.to_f32().into_owned(),
                spec.embedding.token_width(spec.hidden_size),
                &device,
            );
            let types =
                samples.token_types.as_ref().filter(|_| stack == 0).map(|types| &types[chunk.tokens.clone()]);
            let layer_rows = self.layer_rows(run, &spec.embedding, place, ids)?;
            let (hidden, carried) = {
                let positions = self.positions(&chunk, stack);
                let context = ChunkContext {
                    offsets: &chunk.offsets,
                    tokens: ids,
                    positions,
                    rope: &self.rope,
                    encoder: None,
                    device: &device,
                };
                let (hidden, carried) = embedding.forward(rows, layer_rows, types, &context);
                (B::to_host(hidden), carried.into_host())
            };
            self.emit(run, &chunk, Rows::new(spec.hidden_size, hidden), carried)?;
            self.settle(run, index + 1, || Ok(()))?;
        }
        Ok(())
    }

    /// Rows of the table of the layers' inputs, where there is one.
    fn layer_rows(
        &self,
        run: &mut StageRun,
        embedding: &EmbeddingSpec,
        place: Place,
        ids: &[u32],
    ) -> Result<Option<Tensor<B, 2>>> {
        let Some(inputs) = embedding.layer_inputs else { return Ok(None) };
        let table = self.model.layout.slot(place, TensorRole::LayerInputTable.weight())?;
        let in_table = |id: &u32| if (*id as usize) < inputs.vocab_size { *id } else { 0 };
        let start = Instant::now();
        let rows = self.model.layout.read_rows(table, &ids.iter().map(in_table).collect::<Vec<_>>())?;
        run.read += start.elapsed();
        run.wait += start.elapsed();
        Ok(Some(B::from_host(rows.to_f32().into_owned(), inputs.total(), self.factory.device())))
    }
}
