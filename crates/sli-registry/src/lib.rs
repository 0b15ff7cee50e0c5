//! From a config.json to a model spec: the architectures that Sequential Layer Ingestion knows.
//!
//! - [`HfConfig`]: a config.json, read with types, that remembers which of its keys were read.
//! - [`Architecture`]: the names of an architecture, its spec and where its weights lie; [`ARCHITECTURES`] are
//!   built in.
//! - [`ArchitectureRegistry`]: finds the architecture of a config, also among those that a program registers.
//! - [`Taxonomy`]: what is supported, for people and for scripts.
//!
//! ```
//! use sli_registry::{ArchitectureRegistry, HfConfig};
//!
//! let config = HfConfig::parse(
//!     r#"{
//!         "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
//!         "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
//!         "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768,
//!         "rope_theta": 1000000.0, "tie_word_embeddings": true, "secret_scale": 3.0
//!     }"#,
//!     "config.json",
//! )?;
//! let resolved = ArchitectureRegistry::default().resolve(&config)?;
//! assert_eq!(resolved.spec.architecture, "qwen2");
//! assert_eq!(resolved.spec.num_layers(), 24);
//! assert_eq!(resolved.unread, ["secret_scale"]);
//! # Ok::<(), sli_core::SliError>(())
//! ```

mod arch;
mod architecture;
mod blocks;
mod check;
mod config;
mod delta;
mod experts;
mod layer_types;
mod maps;
mod mla;
mod names;
mod quantile;
mod quantization;
mod registry;
mod rope;
mod ssm;
mod taxonomy;
mod ternary;
mod windows;

pub use arch::ARCHITECTURES;
pub use architecture::{Architecture, KnownModel};
pub use config::{HfConfig, MAX_LAYERS, MAX_SIZE};
pub use registry::{ArchitectureRegistry, Resolved};
pub use taxonomy::{ArchitectureEntry, FamilyEntry, Taxonomy, taxonomy, taxonomy_markdown};
