//! The activation of Apertus, with learned slopes (Huang and Schlag 2024, "xIELU").

use burn::tensor::Tensor;
use sli_core::{Result, SliError, TensorRole};

use crate::backend::SliBackend;
use crate::tensors::LayerTensors;

/// b x + a x^2 where x is positive, else b x + a' (exp(min(x, e)) - 1 - x).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Xielu {
    positive: f64,
    negative: f64,
    beta: f64,
    eps: f64,
}

impl Xielu {
    /// Takes the numbers. What is learned is stored before a softplus, and the negative one without b.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(tensors: &LayerTensors) -> Result<Self> {
        let number = |role| Ok::<_, SliError>(f64::from(tensors.weight(role)?.to_f32()[0]));
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let beta = number(TensorRole::XieluBeta)?;
        Ok(Self {
            positive: softplus(number(TensorRole::XieluPositive)?),
            negative: beta + softplus(number(TensorRole::XieluNegative)?),
            beta,
            eps: number(TensorRole::XieluEps)?,
        })
    }

    pub(crate) fn forward<B: SliBackend>(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let positive = x.clone().clamp_min(0.0);
        let square = positive.clone() * positive * self.positive;
        let below = (x.clone().clamp_max(self.eps).exp() - 1.0 - x.clone()) * self.negative;
        let is_positive = x.clone().greater_elem(0.0);
        x * self.beta + below.mask_where(is_positive, square)
    }
}
