//! The weights of one layer on their way into modules.

use std::collections::HashMap;

use sli_core::{HostTensor, Result, SliError, TensorKey, TensorRole};

/// The loaded tensors of a layer, in the shapes that [`sli_core::BlockSpec::needs`] asks for.
#[derive(Debug, Default)]
pub struct LayerTensors {
    /// Index of the layer, for messages.
    pub layer: usize,
    tensors: HashMap<TensorKey, HostTensor>,
}

impl LayerTensors {
    /// The tensors of layer `layer`.
    pub fn new(layer: usize, tensors: impl IntoIterator<Item = (TensorKey, HostTensor)>) -> Self {
        Self { layer, tensors: tensors.into_iter().collect() }
    }

    /// A tensor that the spec needs.
    ///
    /// # Errors
    /// `LayerCreation` when the loader did not bring it.
    pub fn get(&self, key: TensorKey) -> Result<&HostTensor> {
        self.tensors.get(&key).ok_or_else(|| self.error(format!("its {key} was not loaded")))
    }

    /// The weight of a role.
    ///
    /// # Errors
    /// As [`LayerTensors::get`].
    pub fn weight(&self, role: TensorRole) -> Result<&HostTensor> {
        self.get(role.weight())
    }

    /// The bias of a role where the spec says that it has one.
    ///
    /// # Errors
    /// As [`LayerTensors::get`].
    pub fn bias_if(&self, role: TensorRole, present: bool) -> Result<Option<&HostTensor>> {
        present.then(|| self.get(role.bias())).transpose()
    }

    /// Those of a sublayer, as if it were the only one.
    pub(crate) fn of_sublayer(&self, sublayer: u8) -> Self {
        let own = self.tensors.iter().filter(|(key, _)| key.sublayer == sublayer);
        Self::new(self.layer, own.map(|(key, tensor)| (key.in_sublayer(0), tensor.clone())))
    }

    /// An error that names this layer.
    pub fn error(&self, message: String) -> SliError {
        SliError::LayerCreation { layer: self.layer, message }
    }
}
