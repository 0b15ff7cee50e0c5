//! The one place where layers are made.

use burn::tensor::Device;
use sli_core::{BlockSpec, EmbeddingSpec, HeadSpec, LayerPart, LinearInputs, Result, StackSpec};
use sli_kernels::Precision;

use crate::backend::SliBackend;
use crate::block::Block;
use crate::embedding::Embedding;
use crate::head::Head;
use crate::loader::Loader;
use crate::stack_end::StackEnd;
use crate::tensors::LayerTensors;

/// Makes the parts of any model from their specs and weights, for one device and precision.
#[derive(Clone, Debug)]
pub struct UniversalLayerFactory<B: SliBackend> {
    precision: Precision,
    linear_inputs: LinearInputs,
    device: Device<B>,
}

impl<B: SliBackend> UniversalLayerFactory<B> {
    /// A factory for layers on `device` whose matrix products round their inputs as `precision` says.
    pub fn new(precision: Precision, device: Device<B>) -> Self {
        Self { precision, linear_inputs: LinearInputs::Exact, device }
    }

    /// The same for a model whose blocks round the inputs of their linear layers.
    pub fn with_linear_inputs(self, linear_inputs: LinearInputs) -> Self {
        Self { linear_inputs, ..self }
    }

    /// Where the layers live.
    pub fn device(&self) -> &Device<B> {
        &self.device
    }

    /// What follows the token table.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn embedding(&self, spec: &EmbeddingSpec, tensors: &LayerTensors) -> Result<Embedding<B>> {
        Embedding::new(spec, &self.loader(tensors))
    }

    /// A layer, or a part of one that [has two](BlockSpec::has_two_parts).
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn block(&self, spec: &BlockSpec, part: LayerPart, tensors: LayerTensors) -> Result<Block<B>> {
        Block::new(spec, part, &self.loader(&tensors).with_linear_inputs(self.linear_inputs))
    }

    /// What follows the last layer.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn stack_end(&self, spec: &StackSpec, tensors: &LayerTensors) -> Result<StackEnd<B>> {
        StackEnd::new(spec, &self.loader(tensors))
    }

    /// The head.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn head(&self, spec: &HeadSpec, tensors: &LayerTensors) -> Result<Head<B>> {
        Head::new(spec, &self.loader(tensors))
    }

    fn loader<'a>(&'a self, tensors: &'a LayerTensors) -> Loader<'a, B> {
        Loader::new(tensors, self.precision, &self.device)
    }
}
