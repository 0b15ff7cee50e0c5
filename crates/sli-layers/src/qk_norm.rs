//! Norms on queries and keys before they meet.

use sli_core::{AttentionSpec, QkNorm, Result, TensorRole};

use crate::backend::SliBackend;
use crate::loader::Loader;
use crate::norm::Norm;

/// The norms of queries and keys, and whether they come before the rotation.
#[derive(Clone, Debug)]
pub(crate) struct QkNorms<B: SliBackend> {
    pub(crate) query: Norm<B>,
    /// `None` where the layer has no keys of its own.
    pub(crate) key: Option<Norm<B>>,
    pub(crate) after_rotation: bool,
}

impl<B: SliBackend> QkNorms<B> {
    /// Takes the norms that `kind` asks for.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load(kind: QkNorm, spec: &AttentionSpec, loader: &Loader<B>) -> Result<Self> {
        use TensorRole::{AttnKHeadNorm, AttnKNorm, AttnQHeadNorm, AttnQNorm};
        let (norm, width) = (kind.norm(), spec.head_dim);
        let shared = |role| Norm::load(norm, loader, role);
        let each = |role: fn(u32) -> TensorRole, heads: usize| {
            Norm::load_pieces(norm, width, loader, (0..heads as u32).map(role))
        };
        let query = match kind {
            QkNorm::PerHead(_) | QkNorm::PerHeadRotated(_) => shared(AttnQNorm)?.over(width),
            QkNorm::EachHead(_) => each(AttnQHeadNorm, spec.num_heads)?,
            QkNorm::Whole(_) => shared(AttnQNorm)?,
        };
        let key = || match kind {
            QkNorm::PerHead(_) | QkNorm::PerHeadRotated(_) => Ok(shared(AttnKNorm)?.over(width)),
            QkNorm::EachHead(_) => each(AttnKHeadNorm, spec.num_kv_heads),
            QkNorm::Whole(_) => shared(AttnKNorm),
        };
        let key = spec.key_values.has_keys().then(key).transpose()?;
        Ok(Self { query, key, after_rotation: matches!(kind, QkNorm::PerHeadRotated(_)) })
    }
}
