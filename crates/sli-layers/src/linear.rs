//! y = x W^T + b, with the weight as the backend keeps it.

use burn::tensor::{Device, Tensor};
use sli_core::{LinearInputs, Result, SliError, TensorRole};
use sli_kernels::Precision;

use crate::backend::{SliBackend, vector};
use crate::tensors::LayerTensors;

/// A projection of each token.
#[derive(Clone, Debug)]
pub struct Linear<B: SliBackend> {
    pub(crate) weight: B::Matrix,
    pub(crate) bias: Option<Tensor<B, 1>>,
    inputs: LinearInputs,
    /// Two matrices of low rank, whose product is added to the weight.
    pub(crate) adapter: Option<[B::Matrix; 2]>,
}

impl<B: SliBackend> Linear<B> {
    /// Takes the role's weight [out, in], and its bias `[out]` where `bias` says that there is one.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(
        tensors: &LayerTensors,
        role: TensorRole,
        bias: bool,
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        let weight = B::load_matrix(tensors.weight(role)?, precision, device);
        let bias = tensors.bias_if(role, bias)?.map(|bias| vector(bias, device));
        Ok(Self { weight, bias, inputs: tensors.linear_inputs, adapter: None })
    }

    /// The same projection of x plus up(down(x)), with matrices of these roles.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn adapted(
        self,
        tensors: &LayerTensors,
        [down, up]: [TensorRole; 2],
        precision: Precision,
        device: &Device<B>,
    ) -> Result<Self> {
        let matrix = |role| Ok::<_, SliError>(B::load_matrix(tensors.weight(role)?, precision, device));
        Ok(Self { adapter: Some([matrix(down)?, matrix(up)?]), ..self })
    }

    /// [tokens, in] -> [tokens, out].
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let Some([down, up]) = &self.adapter else { return self.product(x) };
        let added = B::matrix_product(B::matrix_product(x.clone(), down, None), up, None);
        B::join(self.product(x), added)
    }

    fn product(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self.inputs {
            LinearInputs::Exact => B::matrix_product(x, &self.weight, self.bias.as_ref()),
            LinearInputs::EightBits => {
                let (x, scales) = B::round_rows(x);
                let y = B::matrix_product(x, &self.weight, None) / scales;
                match &self.bias {
                    Some(bias) => y + bias.clone().unsqueeze(),
                    None => y,
                }
            }
        }
    }

    /// Is it nothing but a product and a bias?
    pub(crate) fn is_exact(&self) -> bool {
        self.inputs.is_exact() && self.adapter.is_none()
    }
}
