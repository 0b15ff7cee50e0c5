//! NdArray: the plain reference. Weights are widened to f32, everything else is the default.

use burn::backend::NdArray;
use burn::tensor::{Device, Tensor};
use sli_core::HostTensor;
use sli_kernels::Precision;

use crate::backend::{SliBackend, plain, table};

/// A widened matrix [in, out] and the rounding of what it is multiplied with.
#[derive(Clone, Debug)]
pub struct WideMatrix {
    transposed: Tensor<NdArray, 2>,
    precision: Precision,
}

impl SliBackend for NdArray {
    type Matrix = WideMatrix;

    fn load_matrix(weight: &HostTensor, precision: Precision, device: &Device<Self>) -> WideMatrix {
        WideMatrix { transposed: plain::rounded(table(weight, device), precision).transpose(), precision }
    }

    fn matrix_product(
        x: Tensor<Self, 2>,
        weight: &WideMatrix,
        bias: Option<&Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let y = plain::rounded(x, weight.precision).matmul(weight.transposed.clone());
        match bias {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }
}
