//! From the final hidden state to logits, a tile of the vocabulary at a time.

use burn::tensor::{Device, Tensor, TensorData};
use sli_core::{HeadSpec, HostTensor, Result, TensorRole};
use sli_kernels::{Activation, Precision};

use crate::backend::{SliBackend, vector};
use crate::linear::Linear;
use crate::loader::Loader;
use crate::mlp::kernel_activation;
use crate::norm::Norm;

/// The head without its vocabulary matrix, which the caller streams.
#[derive(Clone, Debug)]
pub struct Head<B: SliBackend> {
    transform: Option<(Linear<B>, Activation, Option<Norm<B>>)>,
    scale: Option<f64>,
    bias: Option<HostTensor>,
    softcap: Option<f64>,
    unit_rows: bool,
    precision: Precision,
    device: Device<B>,
}

impl<B: SliBackend> Head<B> {
    /// Takes the transform and the bias.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &HeadSpec, loader: &Loader<B>) -> Result<Self> {
        let transform = match &spec.transform {
            Some(transform) => Some((
                Linear::new(loader, TensorRole::HeadDense, transform.bias)?,
                kernel_activation(transform.activation),
                transform.norm.map(|norm| Norm::load(norm, loader, TensorRole::HeadNorm)).transpose()?,
            )),
            None => None,
        };
        let bias = loader.tensors.bias_if(TensorRole::LmHead, spec.bias)?.cloned();
        Ok(Self {
            transform,
            scale: spec.scale,
            bias,
            softcap: spec.softcap,
            unit_rows: spec.unit_rows,
            precision: loader.precision,
            device: loader.device.clone(),
        })
    }

    /// What is multiplied with the vocabulary matrix, [tokens, hidden].
    pub fn prepare(&self, final_hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let mut x = final_hidden;
        if let Some((dense, activation, norm)) = &self.transform {
            x = B::nonlinearity(*activation, dense.forward(x));
            if let Some(norm) = norm {
                x = norm.forward(x);
            }
        }
        match self.scale {
            Some(scale) => x * scale,
            None => x,
        }
    }

    /// A tile of the vocabulary as the backend keeps it: rows `first..` of the matrix.
    pub fn tile(&self, weight: &HostTensor, first: usize) -> Tile<B> {
        let rows = weight.shape()[0];
        Tile {
            weight: B::load_matrix(weight, self.precision, &self.device),
            bias: self.bias.as_ref().map(|bias| vector(&bias.rows(first, rows), &self.device)),
            inverse_lengths: self.unit_rows.then(|| inverse_lengths(weight, &self.device)),
            softcap: self.softcap,
        }
    }
}

/// One divided by the length of each row of a matrix [rows, columns]. A row that is all but zero stays so, as in the
/// models that do this.
fn inverse_lengths<B: SliBackend>(matrix: &HostTensor, device: &Device<B>) -> Tensor<B, 1> {
    const LEAST: f64 = 1e-12;
    let inverse = |row| {
        let values = matrix.rows(row, 1);
        let squares = values.to_f32().iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        (1.0 / squares.sqrt().max(LEAST)) as f32
    };
    let rows = matrix.shape()[0];
    Tensor::from_data(TensorData::new((0..rows).map(inverse).collect::<Vec<f32>>(), [rows]), device)
}

/// Some rows of the vocabulary matrix and of its bias.
#[derive(Clone, Debug)]
pub struct Tile<B: SliBackend> {
    weight: B::Matrix,
    bias: Option<Tensor<B, 1>>,
    inverse_lengths: Option<Tensor<B, 1>>,
    softcap: Option<f64>,
}

impl<B: SliBackend> Tile<B> {
    /// Prepared hidden states [tokens, hidden] -> logits [tokens, rows of the tile].
    pub fn logits(&self, prepared: Tensor<B, 2>) -> Tensor<B, 2> {
        let logits = match &self.inverse_lengths {
            None => B::matrix_product(prepared, &self.weight, self.bias.as_ref()),
            Some(inverse) => {
                let logits = B::matrix_product(prepared, &self.weight, None) * inverse.clone().unsqueeze();
                match &self.bias {
                    Some(bias) => logits + bias.clone().unsqueeze(),
                    None => logits,
                }
            }
        };
        match self.softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }
}
