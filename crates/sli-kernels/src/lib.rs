//! CPU kernels over plain slices for transformer and state-space layers.
//!
//! * [`linear`]: products with a weight [`Matrix`] as it is stored (floats of 32, 16, 8 and 4 bits, integers of 8 and 4
//!   bits and -1, 0, 1, with their scales). Weights are widened in registers or in a block of cache size, never as a whole.
//! * [`attention`]: tile by tile with a running softmax, over packed samples.
//! * [`chosen_attention`]: attention in which an index chooses the keys of each query ([`ChosenKeys`]).
//! * [`rms_norm`], [`layer_norm`], [`activate`], [`gated_activation`], [`rope`], [`softmax_rows`], [`round_rows`].
//! * [`selective_scan`], [`head_scan`] and [`causal_conv1d`] for state-space layers, [`delta_rule`], [`state_rule`] and [`wkv`] for
//!   linear attention.
//! * [`RowSummary`] and [`ChannelMoments`]: what is kept of logits and activations that are not kept themselves.
//!
//! All matrices are row-major, activations are f32. Samples are *packed*: laid end to end, with offsets, so that there
//! is no padding. Kernels know shapes, not models. They run on the threads of the current `rayon` pool, and no result
//! depends on how many those are.
//!
//! The code is written once and compiled for several instruction sets; [`isa`] is the one in use. Callers check shapes
//! first: a kernel panics where its arguments do not fit together.
//!
//! ```
//! use half::bf16;
//! use sli_kernels::{Format, Matrix, Precision, linear};
//!
//! // Two outputs of three inputs.
//! let weights = [1.0, 2.0, 3.0, 0.5, 0.0, -0.5].map(bf16::from_f32);
//! let matrix = Matrix { rows: 2, columns: 3, format: Format::Bf16(&weights) };
//! matrix.check()?;
//!
//! let x = [1.0, 1.0, 1.0, 0.0, 2.0, 4.0]; // two rows
//! let mut y = [0.0; 4];
//! linear(x[..].into(), &matrix, Some(&[0.0, 10.0]), Precision::F32, &mut y);
//! assert_eq!(y, [6.0, 10.0, 16.0, 8.0]);
//! # Ok::<(), sli_kernels::ShapeError>(())
//! ```

mod activation;
mod attention;
mod chosen;
mod clamped_gate;
mod conv;
mod delta;
mod formats;
mod head_scan;
mod isa;
mod linear;
mod math;
mod matrix;
mod mlp;
mod moments;
mod norm;
mod packed;
mod parallel;
pub mod peak;
mod product;
mod rope;
mod round_rows;
mod rows;
mod scan;
mod scratch;
mod simd;
mod softmax;
mod state_rule;
mod summary;
#[cfg(test)]
mod testing;
mod wkv;

pub use activation::{Activation, activate, gated_activation};
pub use attention::{Attention, Bias, Disentangled, Mask, attention};
pub use chosen::{ChosenKeys, chosen_attention};
pub use conv::causal_conv1d;
pub use delta::{DeltaRule, DeltaTokens, delta_rule};
pub use head_scan::{HeadScan, head_scan};
pub use isa::{Isa, IsaError, available, isa, requested_isa};
pub use linear::{Activations, linear};
pub use matrix::{Format, Matrix, ShapeError};
pub use mlp::{Inner, Mlp, Projection, mlp};
pub use moments::ChannelMoments;
pub use norm::{add, add_rms_norm, layer_norm, rms_norm};
pub use product::Precision;
pub use rope::rope;
pub use round_rows::round_rows;
pub use rows::{gather_rows, lead_heads, scatter_add_rows};
pub use scan::{SelectiveScan, selective_scan};
pub use scratch::SCRATCH_BYTES;
pub use softmax::softmax_rows;
pub use state_rule::{StateRule, StateTokens, state_rule};
pub use summary::{RowSummary, update_rows};
pub use wkv::wkv;
