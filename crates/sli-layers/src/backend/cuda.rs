//! CUDA: bf16 and f32 weights go to the device as they are, Burn's kernels do the rest.

use burn::backend::Cuda;
use burn::tensor::backend::Backend;
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Tensor, TensorData};
use libloading::{Library, Symbol};
use sli_core::{Dtype, HostTensor, Result, SliError};
use sli_kernels::Precision;

use crate::backend::{SliBackend, table};

/// A matrix [in, out] on the device, in the dtype of its products.
#[derive(Clone, Debug)]
pub struct DeviceMatrix {
    transposed: Tensor<Cuda, 2>,
}

impl SliBackend for Cuda {
    type Matrix = DeviceMatrix;

    fn load_matrix(weight: &HostTensor, precision: Precision, device: &Device<Self>) -> DeviceMatrix {
        let half_products = precision == Precision::Bf16 && Cuda::supports_dtype(device, DType::BF16);
        let shape = weight.matrix_shape();
        let stored: Tensor<Cuda, 2> = match weight.dtype() {
            Dtype::Bf16 if half_products => {
                let bytes = Bytes::from_shared(weight.bytes().clone(), AllocationProperty::File);
                Tensor::from_data(TensorData::from_bytes(bytes, shape, DType::BF16), (device, DType::BF16))
            }
            _ if half_products => table(weight, device).cast(DType::BF16),
            _ => table(weight, device),
        };
        DeviceMatrix { transposed: stored.transpose() }
    }

    fn matrix_product(
        x: Tensor<Self, 2>,
        weight: &DeviceMatrix,
        bias: Option<&Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let y = x.cast(weight.transposed.dtype()).matmul(weight.transposed.clone()).cast(DType::F32);
        match bias {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }
}

/// The number of CUDA devices. Asked before any Burn call, since below it a missing driver is a panic.
///
/// # Errors
/// `Device`, saying whether the driver, the device or the run-time compiler is missing.
pub fn cuda_devices() -> Result<usize> {
    let error = |message: String| SliError::Device { device: "cuda".into(), message };
    // SAFETY: loading the driver's and the compiler's libraries runs only their own initialisers.
    let open = |names: &[&str]| names.iter().find_map(|name| unsafe { Library::new(name).ok() });
    let driver = open(&["libcuda.so.1", "libcuda.so", "nvcuda.dll"])
        .ok_or_else(|| error("no CUDA driver (libcuda.so.1) on this machine".into()))?;
    let compilers =
        ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "nvrtc64_130_0.dll", "nvrtc64_120_0.dll"];
    if open(&compilers).is_none() {
        return Err(error(
            "there is a driver, but no NVRTC (libnvrtc.so), which compiles the kernels".into(),
        ));
    }
    let mut count = 0;
    // SAFETY: both symbols have these signatures in every version of the driver's C interface.
    let code = unsafe {
        let missing = |e: libloading::Error| error(e.to_string());
        let init: Symbol<'_, unsafe extern "C" fn(u32) -> i32> = driver.get(b"cuInit").map_err(missing)?;
        let get: Symbol<'_, unsafe extern "C" fn(*mut i32) -> i32> =
            driver.get(b"cuDeviceGetCount").map_err(missing)?;
        match init(0) {
            0 => get(&mut count),
            code => code,
        }
    };
    match (code, count) {
        (0, 1..) => Ok(count as usize),
        (0, _) => Err(error("the driver finds no device".into())),
        (code, _) => Err(error(format!("the driver answers with code {code}"))),
    }
}
