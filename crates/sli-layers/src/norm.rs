//! RMS norm and layer norm.

use burn::tensor::{Device, Tensor};
use sli_core::{HostTensor, NormSpec, Result, TensorRole};

use crate::backend::{SliBackend, vector};
use crate::loader::Loader;

/// A norm with its weights. Rows wider than the norm are normalised piece by piece, as heads are.
#[derive(Clone, Debug)]
pub struct Norm<B: SliBackend> {
    spec: NormSpec,
    /// Width of a piece; `None`: the whole row.
    width: Option<usize>,
    weight: Option<Tensor<B, 1>>,
    bias: Option<Tensor<B, 1>>,
}

impl<B: SliBackend> Norm<B> {
    /// A norm over the width of `weight`; without one, over whole rows.
    pub fn new(
        spec: NormSpec,
        weight: Option<&HostTensor>,
        bias: Option<&HostTensor>,
        device: &Device<B>,
    ) -> Self {
        Self {
            spec,
            width: weight.map(HostTensor::len),
            weight: weight.map(|weight| vector(weight, device)),
            bias: bias.map(|bias| vector(bias, device)),
        }
    }

    /// Takes the role's tensors.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn load(spec: NormSpec, loader: &Loader<B>, role: TensorRole) -> Result<Self> {
        let weight = spec.has_weight().then(|| loader.tensors.weight(role)).transpose()?;
        Ok(Self::new(spec, weight, loader.tensors.bias_if(role, spec.has_bias())?, loader.device))
    }

    /// x * length / sqrt(x . x + eps), for each piece of `width`: an RMS norm with one weight for all values.
    pub(crate) fn of_length(length: f32, width: usize, eps: f64, device: &Device<B>) -> Self {
        let weight = HostTensor::from_vec(vec![length / (width as f32).sqrt(); width], vec![width]);
        Self::new(NormSpec::rms(eps / width as f64), Some(&weight), None, device)
    }

    /// A norm over pieces of `width`, each with the weights of one of `roles`, in turn.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load_pieces(
        spec: NormSpec,
        width: usize,
        loader: &Loader<B>,
        roles: impl Iterator<Item = TensorRole>,
    ) -> Result<Self> {
        let pieces: Vec<Self> = roles.map(|role| Self::load(spec, loader, role)).collect::<Result<_>>()?;
        let row = |part: fn(&Self) -> &Option<Tensor<B, 1>>| {
            let parts: Option<Vec<_>> = pieces.iter().map(|piece| part(piece).clone()).collect();
            parts.filter(|parts| !parts.is_empty()).map(|parts| Tensor::cat(parts, 0))
        };
        Ok(Self {
            spec,
            width: Some(width),
            weight: row(|piece| &piece.weight),
            bias: row(|piece| &piece.bias),
        })
    }

    /// The same norm over pieces of `width`, for norms whose weight does not say how wide they are.
    pub(crate) fn over(self, width: usize) -> Self {
        Self { width: Some(width), ..self }
    }

    /// [tokens, n * width] -> the same shape.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let width = self.width.unwrap_or(x.dims()[1]);
        match &self.weight {
            // A weight for each piece.
            Some(weight) if weight.dims()[0] > width => {
                let y = B::normalize(x, self.spec, width, None, None) * weight.clone().unsqueeze();
                match &self.bias {
                    Some(bias) => y + bias.clone().unsqueeze(),
                    None => y,
                }
            }
            weight => B::normalize(x, self.spec, width, weight.as_ref(), self.bias.as_ref()),
        }
    }
}
