//! What crosses layers besides the hidden state.

use burn::tensor::{Device, Tensor};
use sli_core::{Carry, Rows};

use crate::backend::SliBackend;

/// Under which the residual streams after the first are kept, side by side: [tokens, (streams - 1) * hidden]. The first
/// is the hidden state.
pub(crate) const STREAMS: &str = "streams";

/// Under which the first hidden state is kept, for layers that look at it again: [tokens, hidden].
pub(crate) const EMBEDDING: &str = "embedding";

/// Tensors [tokens, width] by name, in the order in which they were first put.
#[derive(Clone, Debug, Default)]
pub struct Carried<B: SliBackend>(Vec<(String, Tensor<B, 2>)>);

impl<B: SliBackend> Carried<B> {
    /// Nothing.
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// What was kept with a chunk's activations.
    pub fn from_host(kept: Vec<Carry>, device: &Device<B>) -> Self {
        let tensor = |carry: Carry| {
            let width = carry.rows.width();
            (carry.name, B::from_host(carry.rows.into_values(), width, device))
        };
        Self(kept.into_iter().map(tensor).collect())
    }

    /// The same, to be kept with a chunk's activations.
    pub fn into_host(self) -> Vec<Carry> {
        let kept = |(name, tensor): (String, Tensor<B, 2>)| {
            let width = tensor.dims()[1];
            Carry { name, rows: Rows::new(width, B::to_host(tensor)) }
        };
        self.0.into_iter().map(kept).collect()
    }

    /// Puts a tensor, in place of one of the same name.
    pub(crate) fn put(&mut self, name: impl Into<String>, tensor: Tensor<B, 2>) {
        let name = name.into();
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = tensor,
            None => self.0.push((name, tensor)),
        }
    }

    /// The tensor of this name.
    ///
    /// # Panics
    /// When no earlier layer has put it, which the spec rules out.
    pub(crate) fn get(&self, name: &str) -> Tensor<B, 2> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.unwrap_or_else(|| panic!("no earlier layer has put '{name}'")).1.clone()
    }

    /// Takes the tensor of this name out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Tensor<B, 2>> {
        let index = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(index).1)
    }
}
