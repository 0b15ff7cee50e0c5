//! Checkpoints on disk as a bounded stream of layers: safetensors, direct I/O, read-ahead.
//!
//! From files to tensors in four steps, each of which can be used alone:
//!
//! 1. [`UniversalWeightLoader`] finds the files of a model, [`Checkpoint`] opens them and checks their headers.
//! 2. [`Layout`] finds every tensor that a spec needs and checks its shape and dtype, before a weight is read. Of a
//!    fused tensor it keeps the bytes that are needed: one expert, or one slice of rows.
//! 3. [`Layout::load_groups`], [`Layout::read_rows`] and their like read, and undo the layout of the file: past this
//!    crate a matrix is [out, in], whatever it was. One copy undoes any number of steps; none where rows only have to
//!    be cut out. Weights keep the dtype that they are stored in (f64 becomes f32).
//! 4. [`WeightStream`] reads in the background what comes next, within a budget of memory, past the page cache.
//!
//! The crate knows no architecture: what is needed comes from a [`ModelSpec`](sli_core::ModelSpec), where it lies from
//! a [`WeightMap`](sli_core::WeightMap).
//!
//! ```
//! use std::sync::Arc;
//!
//! use sli_core::{LayerPart, ModelSpec, Place, Result, WeightMap};
//! use sli_weights::{
//!     HubOptions, Layout, ReadMode, ReadRequest, StreamOptions, UniversalWeightLoader, WeightStream,
//! };
//!
//! fn visit_layers(model: &str, spec: &ModelSpec, map: &WeightMap) -> Result<()> {
//!     let loader = UniversalWeightLoader::open(model, &HubOptions::default())?;
//!     let layout = Arc::new(Layout::new(&loader.checkpoint()?, spec, map)?);
//!     let layers: Vec<_> =
//!         layout.places().into_iter().filter(|place| matches!(place, Place::Layer { .. })).collect();
//!
//!     let options = StreamOptions { ahead_bytes: 2 << 30, urgent_bytes: 256 << 20, mode: ReadMode::Direct };
//!     let stream = WeightStream::new(layout, options)?;
//!     let whole = |place| ReadRequest::Groups(place, LayerPart::Whole.groups()); // but for experts
//!     stream.enqueue(layers.iter().copied().map(whole));
//!     for place in layers {
//!         // The next layers are read while this one is used; its memory is free again when `tensors` is dropped.
//!         let tensors = stream.take(whole(place))?;
//!         for (key, tensor) in tensors.iter() {
//!             println!("{place}, {key}: {} {:?}", tensor.dtype(), tensor.shape());
//!         }
//!     }
//!     Ok(())
//! }
//! ```

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian, and their bytes are used as they are");

mod aligned;
mod checkpoint;
mod direct;
mod files;
mod header;
mod layout;
mod load;
mod loader;
mod memory;
mod rate;
mod read_plan;
mod rows;
mod scales;
mod schedule;
mod slot;
mod stream;
mod ternary;
mod view;

pub use checkpoint::{Checkpoint, StoredTensor, WeightFile};
pub use direct::ReadMode;
pub use header::StoredDtype;
pub use layout::Layout;
pub use load::{GroupTensors, ReadRequest};
pub use loader::{HubOptions, UniversalWeightLoader};
pub use rows::Table;
pub use slot::Slot;
pub use stream::{StreamOptions, StreamStats, WeightStream};
