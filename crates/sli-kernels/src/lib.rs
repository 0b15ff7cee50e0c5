//! CPU kernels over plain slices for transformer and state-space layers.

mod activation;
mod attention;
mod conv;
mod formats;
mod isa;
mod linear;
mod math;
mod matrix;
mod moments;
mod norm;
mod packed;
mod parallel;
mod product;
mod rope;
mod rows;
mod scan;
mod scratch;
mod simd;
mod softmax;
mod summary;
#[cfg(test)]
mod testing;

pub use activation::{Activation, activate, gated_activation};
pub use attention::{Attention, Bias, Mask, attention};
pub use conv::causal_conv1d;
pub use isa::{Isa, IsaError, available, isa, requested_isa};
pub use linear::{Activations, linear};
pub use matrix::{Format, Matrix, ShapeError};
pub use moments::ChannelMoments;
pub use norm::{add, add_rms_norm, layer_norm, rms_norm};
pub use product::Precision;
pub use rope::rope;
pub use rows::{gather_rows, scatter_add_rows};
pub use scan::{SelectiveScan, selective_scan};
pub use softmax::softmax_rows;
pub use summary::{RowSummary, update_rows};
