//! From the tensors of a layer to the weights of its modules.

use burn::tensor::{Device, Tensor};
use sli_core::{LinearInputs, Result, TensorRole};
use sli_kernels::Precision;

use crate::backend::{SliBackend, table, vector};
use crate::tensors::LayerTensors;

/// The tensors of a layer, with how and where modules keep their weights.
#[derive(Debug)]
pub struct Loader<'a, B: SliBackend> {
    /// What was loaded.
    pub(crate) tensors: &'a LayerTensors,
    /// How matrices are kept.
    pub(crate) precision: Precision,
    /// How the inputs of linear layers are rounded.
    pub(crate) linear_inputs: LinearInputs,
    /// Where weights are kept.
    pub(crate) device: &'a Device<B>,
}

impl<'a, B: SliBackend> Loader<'a, B> {
    /// Keeps matrices in `precision`, and gives linear layers their inputs as they are.
    pub fn new(tensors: &'a LayerTensors, precision: Precision, device: &'a Device<B>) -> Self {
        Self { tensors, precision, linear_inputs: LinearInputs::Exact, device }
    }

    /// The same for linear layers whose inputs are rounded like this.
    pub fn with_linear_inputs(self, linear_inputs: LinearInputs) -> Self {
        Self { linear_inputs, ..self }
    }

    /// The same with matrices in f32.
    pub(crate) fn wide(&self) -> Self {
        Self { precision: Precision::F32, ..*self }
    }

    /// The same for other tensors.
    pub(crate) fn over(&self, tensors: &'a LayerTensors) -> Self {
        Self { tensors, ..*self }
    }

    /// The weight of a role [out, in], as the backend keeps matrices.
    ///
    /// # Errors
    /// When it was not loaded, as of every method below.
    pub(crate) fn matrix(&self, role: TensorRole) -> Result<B::Matrix> {
        Ok(B::load_matrix(self.tensors.weight(role)?, self.precision, self.device))
    }

    /// The weight of a role as a vector, in f32.
    pub(crate) fn vector(&self, role: TensorRole) -> Result<Tensor<B, 1>> {
        Ok(vector(self.tensors.weight(role)?, self.device))
    }

    /// The weight of a role as a small table, in f32.
    pub(crate) fn table(&self, role: TensorRole) -> Result<Tensor<B, 2>> {
        Ok(table(self.tensors.weight(role)?, self.device))
    }

    /// The weight of a role on the host, in f32.
    pub(crate) fn values(&self, role: TensorRole) -> Result<Vec<f32>> {
        Ok(self.tensors.weight(role)?.to_f32().into_owned())
    }

    /// The bias of a role, in f32.
    pub(crate) fn bias(&self, role: TensorRole) -> Result<Tensor<B, 1>> {
        Ok(vector(self.tensors.get(role.bias())?, self.device))
    }

    /// The same where the spec says that there is one.
    pub(crate) fn bias_if(&self, role: TensorRole, present: bool) -> Result<Option<Tensor<B, 1>>> {
        present.then(|| self.bias(role)).transpose()
    }
}
