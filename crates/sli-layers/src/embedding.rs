//! From token rows to the first hidden state.

use burn::tensor::{Device, Tensor};
use sli_core::{EmbeddingSpec, Narrow, Positions, Result, SliError, TensorRole};

use crate::altup::Streams;
use crate::backend::SliBackend;
use crate::carried::{Carried, EMBEDDING};
use crate::context::ChunkContext;
use crate::hyper::copy_streams;
use crate::layer_input::LayerInputMaker;
use crate::linear::Linear;
use crate::loader::Loader;
use crate::norm::Norm;
use crate::sinusoids::sinusoids;
use crate::stretch::Stretch;

/// What is added to the token rows, and the norm after it. The token table itself stays in its file: the caller
/// gathers the rows.
#[derive(Clone, Debug)]
pub struct Embedding<B: SliBackend> {
    scale: Option<f64>,
    /// What is narrower than the hidden state, and its way to that width.
    projection: Option<(Narrow, Linear<B>)>,
    positions: Option<PositionRows<B>>,
    token_types: Option<Tensor<B, 2>>,
    /// Added to all tokens, [1, hidden].
    task: Option<Tensor<B, 2>>,
    stretch: Option<Stretch<B>>,
    norm: Option<Norm<B>>,
    layer_inputs: Option<LayerInputMaker<B>>,
    streams: Option<StreamMaker<B>>,
    /// Is the first hidden state carried along?
    carried: bool,
}

/// How further streams are made of the first.
#[derive(Clone, Debug)]
enum StreamMaker<B: SliBackend> {
    Projected(Streams<B>),
    Copied(usize),
}

/// Where the rows that are added for positions come from.
#[derive(Clone, Debug)]
enum PositionRows<B: SliBackend> {
    Table(Tensor<B, 2>),
    Sinusoids { first: usize, steps: usize },
}

impl<B: SliBackend> PositionRows<B> {
    /// [positions, width].
    fn gather(&self, positions: &[u32], width: usize, device: &Device<B>) -> Tensor<B, 2> {
        match self {
            Self::Table(table) => B::gather(table, positions),
            Self::Sinusoids { first, steps } => {
                B::from_host(sinusoids(positions, *first, *steps, width), width, device)
            }
        }
    }
}

impl<B: SliBackend> Embedding<B> {
    /// Takes the tables, the projection and the norm.
    ///
    /// # Errors
    /// When a tensor was not loaded.
    pub fn new(spec: &EmbeddingSpec, loader: &Loader<B>) -> Result<Self> {
        let positions = spec.positions.map(|positions| match positions {
            Positions::Learned { .. } => {
                Ok::<_, SliError>(PositionRows::Table(loader.table(TensorRole::PositionEmbedding)?))
            }
            Positions::Sinusoidal { first, steps } => Ok(PositionRows::Sinusoids { first, steps }),
        });
        let project = |narrow| {
            let bias = matches!(narrow, Narrow::Sum { .. });
            let linear = Linear::new(loader, TensorRole::TokenProjection, bias)?;
            Ok::<_, SliError>((narrow, linear))
        };
        let token_types =
            spec.token_types.map(|_| loader.table(TensorRole::TokenTypeEmbedding)).transpose()?;
        let task = spec.task_row.then(|| loader.table(TensorRole::TaskEmbedding)).transpose()?;
        let stretch = spec.stretched.then(|| Stretch::load(TensorRole::EmbeddingStretch, loader));
        let norm = spec.norm.map(|norm| Norm::load(norm, loader, TensorRole::EmbeddingNorm)).transpose()?;
        let layer_inputs = spec.layer_inputs.map(|inputs| LayerInputMaker::load(inputs, loader));
        let streams = spec.streams.map(|streams| match streams {
            sli_core::Streams::Projected { count } => {
                Ok::<_, SliError>(StreamMaker::Projected(Streams::load(count, TensorRole::StreamIn, loader)?))
            }
            sli_core::Streams::Copied(hyper) => Ok(StreamMaker::Copied(hyper.streams)),
        });
        Ok(Self {
            layer_inputs: layer_inputs.transpose()?,
            streams: streams.transpose()?,
            scale: spec.scale,
            projection: spec.narrow.map(project).transpose()?,
            positions: positions.transpose()?,
            token_types,
            task,
            stretch: stretch.transpose()?,
            norm,
            carried: spec.carried,
        })
    }

    /// Token rows [tokens, token width] -> hidden state, and what is carried beside it. `token_types` defaults to type zero;
    /// `layer_rows` are those of the table of the layers' inputs, where there is one.
    pub fn forward(
        &self,
        token_rows: Tensor<B, 2>,
        layer_rows: Option<Tensor<B, 2>>,
        token_types: Option<&[u32]>,
        context: &ChunkContext<'_, B>,
    ) -> (Tensor<B, 2>, Carried<B>) {
        let tokens = token_rows.dims()[0];
        let mut x = match self.scale {
            Some(scale) => token_rows * scale,
            None => token_rows,
        };
        if let Some((Narrow::Tokens { .. }, projection)) = &self.projection {
            x = projection.forward(x);
        }
        if let Some(table) = &self.token_types {
            let types = token_types.map_or_else(|| vec![0; tokens], <[u32]>::to_vec);
            x = B::join(x, B::gather(table, &types));
        }
        if let Some(rows) = &self.positions {
            let counted = || context.offsets.windows(2).flat_map(|s| 0..(s[1] - s[0]) as u32).collect();
            let positions = context.positions.map_or_else(counted, <[u32]>::to_vec);
            let (width, device) = (x.dims()[1], x.device());
            x = B::join(x, rows.gather(&positions, width, &device));
        }
        if let Some(task) = &self.task {
            x = x + task.clone();
        }
        if let Some(stretch) = &self.stretch {
            x = stretch.forward(x);
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(x);
        }
        if let Some((Narrow::Sum { .. }, projection)) = &self.projection {
            x = projection.forward(x);
        }
        let mut carried = Carried::new();
        if self.carried {
            carried.put(EMBEDDING, x.clone());
        }
        if let (Some(maker), Some(rows)) = (&self.layer_inputs, layer_rows) {
            maker.carry(x.clone(), rows, &mut carried);
        }
        match &self.streams {
            Some(StreamMaker::Projected(streams)) => streams.part(&x, &mut carried),
            Some(StreamMaker::Copied(count)) => copy_streams(&x, *count, &mut carried),
            None => {}
        }
        (x, carried)
    }
}
