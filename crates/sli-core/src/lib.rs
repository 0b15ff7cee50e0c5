//! The words of Sequential Layer Ingestion: what a model *is*, told without any file format and without any backend.
//!
//! - [`spec`]: [`ModelSpec`] and its sum types; the mathematics of a model, layer by layer.
//! - [`role`]: [`TensorRole`], the global vocabulary of weights; which of them a spec needs, and in which shapes, is
//!   said by the `needs` of its parts.
//! - [`weight_map`]: [`WeightMap`], where each weight lies in a checkpoint; [`load_op`]: [`LoadOp`], how its layout is undone at
//!   load time.
//! - [`tensor`]: [`HostTensor`], shared bytes with a dtype and a shape.
//! - [`scales`]: what the elements of matrices in 8 bits or fewer are multiplied by.
//! - [`activation`]: what is kept of a chunk of samples between two layers, and the store that keeps it.
//! - [`error`][]: [`SliError`].
//!
//! ```
//! use sli_core::{ByteSize, Dtype, HostTensor};
//!
//! let limit: ByteSize = "8GiB".parse()?;
//! assert_eq!(limit.bytes(), 8 << 30);
//!
//! let weight = HostTensor::from_f32(&[1.0, 2.0, 3.0, 4.0], &[2, 2]);
//! assert_eq!((weight.dtype(), weight.shape()), (Dtype::F32, &[2, 2][..]));
//! # Ok::<(), sli_core::SliError>(())
//! ```

pub mod activation;
pub mod error;
pub mod load_op;
mod needs;
pub mod role;
pub mod scales;
pub mod size;
pub mod spec;
pub mod tensor;
pub mod weight_map;

pub use activation::{ActivationStore, Carry, ChunkState, Generation, Position, Rows};
pub use error::{Result, SliError, WeightError};
pub use load_op::LoadOp;
pub use role::{Group, Part, TensorKey, TensorNeed, TensorRole};
pub use scales::{MXFP4_GROUP, Scales, TERNARY_ROWS, WeightFormat};
pub use size::ByteSize;
pub use spec::*;
pub use tensor::{Dtype, HostTensor, TensorSource, f8_e8m0_to_f32};
pub use weight_map::{Place, Residency, StackMap, WeightMap, WeightSource};
