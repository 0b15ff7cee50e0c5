//! Mixtures of experts: which layers have them, how many, how large, which token chose which.
//!
//! - [`MoeHandler`] answers questions about a model's experts from its spec, before any weight is read.
//! - [`route`] turns a router's logits into a [`Routing`]: the experts of each token and their weights.
//! - [`RouterLoad`] counts how evenly a layer's experts are used over a dataset.
//!
//! Plain functions over slices: no tensors, no backend.
//!
//! ```
//! use sli_core::RouterSpec;
//! use sli_moe::{RouterLoad, route};
//!
//! // Two tokens, three experts, two experts per token.
//! let router = RouterSpec::softmax(2, true);
//! let logits = [0.0, 3.0, 1.0, 2.0, -1.0, 0.5];
//! let routing = route(&logits, &router, None, 3);
//! assert_eq!(routing.experts(), [1, 2, 0, 2]);
//!
//! // Only experts that some token chose have to be read.
//! let chosen: Vec<u32> = routing.by_expert().iter().map(|rows| rows.expert).collect();
//! assert_eq!(chosen, [0, 1, 2]);
//!
//! let mut load = RouterLoad::new(3);
//! load.add(&routing);
//! assert_eq!(load.tokens, [1, 1, 2]);
//! assert_eq!(load.busiest_share(), 0.5);
//! ```

mod choices;
mod handler;
mod load;
mod routing;

pub use choices::{ExpertRows, Routing};
pub use handler::{MoeHandler, MoeLayer, MoeSummary};
pub use load::RouterLoad;
pub use routing::{route, route_to};
