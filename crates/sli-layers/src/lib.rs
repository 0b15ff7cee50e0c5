//! Blocks of language models on Burn, built from a spec.
//!
//! A [`Block`] is one layer: a `match` on its [`sli_core::BlockSpec`] chooses the mixer and the feed-forward network,
//! and everything it does is readable from that spec. Blocks run on any backend that is a [`SliBackend`]; the trait
//! has a method for each hot operation with a default written in plain Burn operations. Flex, the CPU backend,
//! overrides them with `sli-kernels`; NdArray runs the defaults and is the oracle of the tests.
//!
//! Samples are packed, not padded: activations are [tokens, width], and [`ChunkContext::offsets`] says where each
//! sample starts.
//!
//! ```
//! use burn::backend::Flex;
//! use burn::tensor::Tensor;
//! use sli_core::{HostTensor, NormSpec};
//! use sli_layers::{Norm, SliBackend};
//!
//! let device = Default::default();
//! let norm = Norm::<Flex>::new(NormSpec::rms(0.0), Some(&HostTensor::from_f32(&[1.0, 2.0], &[2])), None, &device);
//! let x = Flex::from_host(vec![3.0, 3.0], 2, &device);
//! assert_eq!(Flex::to_host(norm.forward(x)), [1.0, 2.0]);
//! ```

mod alibi;
mod altup;
mod attention;
mod attention_experts;
mod backend;
mod beside;
mod block;
mod carried;
mod channel_mix;
mod compressed_attention;
mod context;
mod convolved_attention;
mod decayed_attention;
mod delta;
mod differential;
mod disentangled;
mod embedding;
mod factory;
mod head;
mod hyper;
mod indexer;
mod input_convolution;
mod joint;
mod key_bias;
mod layer_input;
mod linear;
mod loader;
mod mamba;
mod mamba2;
mod mixer;
mod mla;
mod mlp;
mod moe;
mod norm;
mod qk_norm;
mod relative_bias;
mod residual;
mod rg_lru;
mod rope;
mod router;
mod score_bias;
mod shift;
mod short_conv;
mod shortcut;
mod sinusoids;
mod stack_end;
mod stretch;
mod summaries;
mod tensors;
mod token_shift;
mod wkv;
mod wkv7;
mod xielu;

pub use attention::AttentionLayer;
pub use backend::{DeltaInputs, HeadScanShape, Scan, SliBackend, StateInputs};
pub use block::{Block, Forward};
pub use carried::Carried;
pub use context::{ChunkContext, EncoderOutput};
pub use delta::DeltaNetLayer;
pub use embedding::Embedding;
pub use factory::UniversalLayerFactory;
pub use head::{Head, Tile};
pub use linear::Linear;
pub use loader::Loader;
pub use mamba::MambaLayer;
pub use mamba2::Mamba2Layer;
pub use mla::MlaLayer;
pub use mlp::Mlp;
pub use moe::{Expert, ExpertOutput, MoeLayer, PendingExperts};
pub use norm::Norm;
pub use rope::{RopeCache, RopeTable};
pub use sli_kernels::Precision;
pub use stack_end::StackEnd;
pub use tensors::LayerTensors;

#[cfg(feature = "cuda")]
pub use backend::cuda_devices;
