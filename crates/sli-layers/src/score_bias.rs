//! What is added to the scores of attention for where query and key stand.

use sli_core::{Alibi, AttentionSpec, PositionSpec, Result, TensorRole};
use sli_kernels::Bias;

use crate::alibi::AlibiBias;
use crate::backend::SliBackend;
use crate::disentangled::DistanceRows;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::relative_bias::{DistanceTable, RelativeBias};

/// What a layer has for it.
#[derive(Clone, Debug)]
pub(crate) enum ScoreBias {
    None,
    Alibi { alibi: Alibi, num_heads: usize, scale: f64 },
    Relative(RelativeBias),
    Disentangled(DistanceRows),
}

/// The same for samples up to some length.
#[derive(Clone, Debug)]
pub(crate) enum BiasWithin<'a> {
    None,
    Alibi(AlibiBias),
    Relative(DistanceTable),
    /// With the row of each distance.
    Disentangled(&'a DistanceRows, Vec<u32>),
}

impl ScoreBias {
    /// What the spec asks for; `query` and `key` project tokens.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load<B: SliBackend>(
        spec: &AttentionSpec,
        [query, key]: [Option<&Linear<B>>; 2],
        loader: &Loader<B>,
    ) -> Result<Self> {
        Ok(match spec.position {
            PositionSpec::Alibi(alibi) => Self::Alibi { alibi, num_heads: spec.num_heads, scale: spec.scale },
            PositionSpec::RelativeBias { max_distance, bidirectional, .. } => {
                let table = loader.tensors.weight(TensorRole::RelativeBias)?;
                Self::Relative(RelativeBias::new(table, max_distance, bidirectional))
            }
            PositionSpec::Disentangled(terms) => {
                Self::Disentangled(DistanceRows::load(terms, [query, key], loader)?)
            }
            _ => Self::None,
        })
    }

    /// The bias in samples of up to `longest` tokens.
    pub(crate) fn within(&self, longest: usize) -> BiasWithin<'_> {
        match self {
            Self::None => BiasWithin::None,
            Self::Alibi { alibi, num_heads, scale } => {
                BiasWithin::Alibi(AlibiBias::new(*alibi, *num_heads, *scale, longest))
            }
            Self::Relative(bias) => BiasWithin::Relative(bias.by_distance(longest)),
            Self::Disentangled(rows) => BiasWithin::Disentangled(rows, rows.row_of(longest)),
        }
    }
}

impl BiasWithin<'_> {
    /// As attention takes it.
    pub(crate) fn kernel(&self) -> Bias<'_> {
        match self {
            Self::None => Bias::None,
            Self::Alibi(alibi) => alibi.kernel(),
            Self::Relative(d) => Bias::Distance { table: &d.values, span: d.span, first: d.first },
            Self::Disentangled(rows, row_of) => Bias::Disentangled(rows.kernel(row_of)),
        }
    }
}
