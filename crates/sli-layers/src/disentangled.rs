//! The rows of distances that queries and keys meet in disentangled attention.

use sli_core::{DisentangledSpec, PositionProjections, Result, TensorRole};
use sli_kernels::Disentangled;

use crate::backend::SliBackend;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;

/// A layer's projections of the table of distances, [rows, heads * head_dim] each.
#[derive(Clone, Debug)]
pub(crate) struct DistanceRows {
    spec: DisentangledSpec,
    keys: Option<Vec<f32>>,
    queries: Option<Vec<f32>>,
}

impl DistanceRows {
    /// Projects the table, perhaps by what projects tokens.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub(crate) fn load<B: SliBackend>(
        spec: DisentangledSpec,
        [query, key]: [Option<&Linear<B>>; 2],
        loader: &Loader<B>,
    ) -> Result<Self> {
        let rows = loader.table(TensorRole::DistanceTable)?;
        let rows = match spec.norm {
            Some(norm) => Norm::load(norm, loader, TensorRole::DistanceNorm)?.forward(rows),
            None => rows,
        };
        let own = |role, bias| Linear::new(loader, role, bias);
        let projected = |linear: &Linear<B>| B::to_host(linear.forward(rows.clone()));
        let (keys, queries) = (spec.content_to_position, spec.position_to_content);
        let (keys, queries) = match spec.projections {
            PositionProjections::Shared => {
                (key.filter(|_| keys).map(projected), query.filter(|_| queries).map(projected))
            }
            PositionProjections::Own { key_bias } => {
                let key = keys.then(|| own(TensorRole::DistanceK, key_bias)).transpose()?;
                let query = queries.then(|| own(TensorRole::DistanceQ, true)).transpose()?;
                (key.as_ref().map(projected), query.as_ref().map(projected))
            }
        };
        Ok(Self { spec, keys, queries })
    }

    /// The row of each distance in samples of up to `longest` tokens, from the most negative on.
    pub(crate) fn row_of(&self, longest: usize) -> Vec<u32> {
        let farthest = longest.max(1) as isize - 1;
        (-farthest..=farthest).map(|distance| self.spec.row(distance) as u32).collect()
    }

    /// As attention takes them.
    pub(crate) fn kernel<'a>(&'a self, row_of: &'a [u32]) -> Disentangled<'a> {
        Disentangled { keys: self.keys.as_deref(), queries: self.queries.as_deref(), row_of }
    }
}
