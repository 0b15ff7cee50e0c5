//! Tensors on the host: shared bytes with a dtype and a shape.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::scales::Scales;

/// How the elements of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    /// 8-bit float, 4 exponent and 3 mantissa bits, no infinities.
    F8E4m3,
    /// 8-bit power of two, for scales.
    F8E8m0,
    I64,
    I32,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::F8E4m3 | Self::F8E8m0 | Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Can a matrix or vector of weights be stored like this?
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16 | Self::F8E4m3)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F8E4m3 => "f8_e4m3",
            Self::F8E8m0 => "f8_e8m0",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
        };
        f.write_str(name)
    }
}

/// A row-major tensor in host memory. Cloning shares the bytes.
#[derive(Clone)]
pub struct HostTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
    /// Of a matrix in few bits.
    scales: Option<Arc<Scales>>,
}

impl HostTensor {
    /// Wraps bytes that hold exactly `shape` elements of `dtype`, at an address aligned for it.
    ///
    /// # Panics
    /// When the length or the alignment does not fit; readers of files check both before.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Bytes) -> Self {
        assert_eq!(
            bytes.len(),
            shape.iter().product::<usize>() * dtype.size(),
            "bytes of a {dtype} tensor {shape:?}"
        );
        assert!(
            (bytes.as_ptr() as usize).is_multiple_of(dtype.size()),
            "a {dtype} tensor at an unaligned address"
        );
        Self { dtype, shape, bytes, scales: None }
    }

    /// The same matrix, whose elements are multiplied by these scales.
    ///
    /// # Panics
    /// When it is no matrix.
    pub fn with_scales(mut self, scales: Scales) -> Self {
        assert_eq!(self.shape.len(), 2, "scales of a {} tensor {:?}", self.dtype, self.shape);
        self.scales = Some(Arc::new(scales));
        self
    }

    /// What the elements are multiplied by, where they are.
    pub fn scales(&self) -> Option<&Scales> {
        self.scales.as_deref()
    }

    /// Rows and columns of a matrix, whose elements may hold several values each.
    pub fn matrix_shape(&self) -> [usize; 2] {
        let elements = [self.shape[0], self.shape[1]];
        self.scales().map_or(elements, |scales| scales.matrix_shape(elements))
    }

    /// An f32 tensor that owns a copy of `values`.
    pub fn from_f32(values: &[f32], shape: &[usize]) -> Self {
        Self::new(Dtype::F32, shape.to_vec(), Bytes::from_owner(Owned(values.to_vec())))
    }

    /// An f32 tensor that takes `values` over.
    pub fn from_vec(values: Vec<f32>, shape: Vec<usize>) -> Self {
        Self::new(Dtype::F32, shape, Bytes::from_owner(Owned(values)))
    }

    /// How the elements are stored.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Sizes of the dimensions, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Has it no elements?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stored bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The elements as `T`; the caller has looked at [`HostTensor::dtype`].
    pub fn elements<T: bytemuck::Pod>(&self) -> &[T] {
        bytemuck::cast_slice(&self.bytes)
    }

    /// Rows `start..start + rows` of the first dimension, sharing the bytes.
    ///
    /// # Panics
    /// When the elements have scales: rows of those are loaded as such.
    pub fn rows(&self, start: usize, rows: usize) -> Self {
        assert!(self.scales.is_none(), "rows of a tensor with scales");
        let row_bytes = self.bytes.len() / self.shape[0].max(1);
        let mut shape = self.shape.clone();
        shape[0] = rows;
        Self {
            dtype: self.dtype,
            shape,
            bytes: self.bytes.slice(start * row_bytes..(start + rows) * row_bytes),
            scales: None,
        }
    }

    /// The same elements under another shape of the same size.
    pub fn reshaped(mut self, shape: Vec<usize>) -> Self {
        assert_eq!(self.len(), shape.iter().product::<usize>(), "reshape {:?} to {shape:?}", self.shape);
        self.shape = shape;
        self
    }

    /// The elements as f32: borrowed when they are stored so, widened otherwise. For vectors and small tables;
    /// matrices go to the kernels as they are stored. F64 is rounded.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        if let Some(scales) = self.scales() {
            return scales.widened(self);
        }
        match self.dtype {
            Dtype::F32 => Cow::Borrowed(self.elements()),
            Dtype::Bf16 => self.elements::<bf16>().iter().map(|v| v.to_f32()).collect(),
            Dtype::F16 => self.elements::<f16>().iter().map(|v| v.to_f32()).collect(),
            Dtype::F64 => self.elements::<f64>().iter().map(|v| *v as f32).collect(),
            Dtype::F8E4m3 => self.bytes.iter().map(|v| f8_e4m3_to_f32(*v)).collect(),
            Dtype::F8E8m0 => self.bytes.iter().map(|v| f8_e8m0_to_f32(*v)).collect(),
            Dtype::I64 => self.elements::<i64>().iter().map(|v| *v as f32).collect(),
            Dtype::I32 => self.elements::<i32>().iter().map(|v| *v as f32).collect(),
            Dtype::I8 => self.elements::<i8>().iter().map(|v| f32::from(*v)).collect(),
            Dtype::U8 | Dtype::Bool => self.bytes.iter().map(|v| f32::from(*v)).collect(),
        }
    }
}

impl fmt::Debug for HostTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostTensor({} {:?})", self.dtype, self.shape)
    }
}

/// The value of an 8-bit float with 4 exponent and 3 mantissa bits (bias 7; 0x7f is NaN), as in "FP8 Formats for
/// Deep Learning", Micikevicius et al. 2022.
pub fn f8_e4m3_to_f32(code: u8) -> f32 {
    if code & 0x7f == 0x7f {
        return f32::NAN;
    }
    // Placed into the exponent and mantissa of an f32 and scaled by 2^(127 - 7): subnormals come out right too.
    let magnitude = f32::from_bits(u32::from(code & 0x7f) << 20) * f32::from_bits((120 + 127) << 23);
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The power of two `2^(code - 127)` that an 8-bit exponent stands for; 255 is NaN (OCP Microscaling Formats, version 1.0).
pub fn f8_e8m0_to_f32(code: u8) -> f32 {
    match code {
        u8::MAX => f32::NAN,
        // The least one is subnormal.
        0 => f32::MIN_POSITIVE / 2.0,
        code => f32::from_bits(u32::from(code) << 23),
    }
}

/// A vector that `Bytes` can own with the alignment of its elements.
struct Owned(Vec<f32>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Anything that answers for tensors by name: a checkpoint on disk, or tensors made by a test.
pub trait TensorSource {
    /// The names of all tensors, in file order.
    fn names(&self) -> Vec<String>;

    /// Dtype and shape of a tensor, or `None` when there is no such tensor.
    fn describe(&self, name: &str) -> Option<(Dtype, Vec<usize>)>;

    /// Reads one tensor whole, as it is stored.
    ///
    /// # Errors
    /// When there is no such tensor or it cannot be read.
    fn read(&self, name: &str) -> Result<HostTensor>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_share_the_bytes() {
        let t = HostTensor::from_f32(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[3, 2]);
        let r = t.rows(1, 2);
        assert_eq!(r.shape(), [2, 2]);
        assert_eq!(r.elements::<f32>(), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(r.bytes().as_ptr(), t.bytes()[8..].as_ptr());
    }

    #[test]
    fn half_types_widen_exactly() {
        let bytes: Vec<u8> = [1.5f32, -0.25].iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        let t = HostTensor::new(Dtype::Bf16, vec![2], Bytes::from(bytes));
        assert_eq!(*t.to_f32(), [1.5, -0.25]);
    }

    #[test]
    fn f8_values_match_the_format() {
        for (code, value) in
            [(0x00, 0.0), (0x01, 1.0 / 512.0), (0x08, 1.0 / 64.0), (0x38, 1.0), (0xb8, -1.0), (0x7e, 448.0)]
        {
            assert_eq!(f8_e4m3_to_f32(code), value, "{code:#x}");
        }
        assert!(f8_e4m3_to_f32(0x7f).is_nan());
        for code in [0, 1, 127, 130, 254] {
            assert_eq!(f64::from(f8_e8m0_to_f32(code)), (f64::from(code) - 127.0).exp2(), "{code}");
        }
        assert!(f8_e8m0_to_f32(255).is_nan());
    }
}
