//! y = x W^T + b, with the weight as the backend keeps it.

use burn::tensor::Tensor;
use sli_core::{LinearInputs, Result, TensorRole};

use crate::backend::SliBackend;
use crate::loader::Loader;

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
    pub fn new(loader: &Loader<B>, role: TensorRole, bias: bool) -> Result<Self> {
        let weight = loader.matrix(role)?;
        let bias = loader.bias_if(role, bias)?;
        Ok(Self { weight, bias, inputs: loader.linear_inputs, adapter: None })
    }

    /// The same projection of x plus up(down(x)), with matrices of these roles.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn adapted(self, loader: &Loader<B>, [down, up]: [TensorRole; 2]) -> Result<Self> {
        Ok(Self { adapter: Some([loader.matrix(down)?, loader.matrix(up)?]), ..self })
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
