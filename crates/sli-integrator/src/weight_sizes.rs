//! How much memory the weights of a model take, stage by stage.

use sli_core::{Group, Place, Result, TensorRole};
use sli_weights::ReadRequest;

use crate::model::OpenModel;
use crate::pipeline::{Stage, stages};

/// Layers of more bytes run in two parts where they can. Smaller ones cost less than moving activations twice.
const IN_PARTS_FROM: u64 = 16 << 20;

/// Sizes of a checkpoint's parts once they are in memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WeightSizes {
    /// Do layers that have two parts run one part after the other?
    pub(crate) in_parts: bool,
    /// What each stage that reads ahead holds, in order, experts apart.
    pub(crate) stages: Vec<u64>,
    /// The largest expert; zero without experts.
    pub(crate) largest_expert: u64,
    /// The largest table of embeddings while it is read, as stored and in f32, which it may become.
    pub(crate) embedding: u64,
    /// Its rows.
    pub(crate) embedding_rows: u64,
    /// A row of the vocabulary matrix.
    pub(crate) head_row: u64,
    /// What is held from the first use to the end.
    pub(crate) pinned: u64,
}

impl WeightSizes {
    /// The sizes for a model, whose layers run in parts when that is said, and otherwise when they are large.
    ///
    /// # Errors
    /// When the layout lacks what the spec needs.
    pub(crate) fn of(model: &OpenModel, in_parts: Option<bool>) -> Result<Self> {
        let layout = &model.layout;
        let held = |stage: &Stage| match stage.groups() {
            [] => Ok(0),
            groups => layout.memory_bytes(&ReadRequest::Groups(stage.place(), groups)),
        };
        let sizes = |in_parts| {
            let stages = stages(&model.spec, model.spec.stacks.len(), in_parts);
            stages.iter().map(held).collect::<Result<Vec<_>>>()
        };
        let whole = sizes(false)?;
        let in_parts = in_parts.unwrap_or_else(|| whole.iter().any(|bytes| *bytes > IN_PARTS_FROM));
        let mut all = Self {
            in_parts,
            stages: if in_parts { sizes(true)? } else { whole },
            pinned: layout.pinned_bytes(),
            ..Self::default()
        };
        for place in layout.places() {
            for group in layout.groups(place).filter(|group| matches!(group, Group::Expert(_))) {
                let bytes = layout.memory_bytes(&ReadRequest::Group(place, group))?;
                all.largest_expert = all.largest_expert.max(bytes);
            }
        }
        for stack in 0..model.spec.stacks.len() {
            let slot = layout.slot(Place::Embedding { stack }, TensorRole::TokenEmbedding.weight())?;
            let values: usize = slot.need.shape.iter().product();
            let held = (slot.bytes() + values * size_of::<f32>()) as u64;
            if held > all.embedding {
                (all.embedding, all.embedding_rows) = (held, slot.need.shape[0] as u64);
            }
        }
        if model.spec.head.is_some() {
            let slot = layout.slot(Place::Head, TensorRole::LmHead.weight())?;
            all.head_row = (slot.bytes() / slot.need.shape[0].max(1)) as u64;
        }
        Ok(all)
    }

    /// The most that a stage and the `ahead` stages after it hold together.
    pub(crate) fn with_ahead(&self, ahead: usize) -> u64 {
        let windows = self.stages.windows((ahead + 1).min(self.stages.len().max(1)));
        windows.map(|window| window.iter().sum()).max().unwrap_or(0)
    }

    /// The stage that holds most.
    pub(crate) fn largest_stage(&self) -> u64 {
        self.with_ahead(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_stages_is_what_lies_side_by_side() {
        let sizes = WeightSizes { stages: vec![1, 4, 2, 4, 2], ..WeightSizes::default() };
        assert_eq!([0, 1, 2, 3, 9].map(|ahead| sizes.with_ahead(ahead)), [4, 6, 10, 12, 13]);
        assert_eq!(WeightSizes::default().with_ahead(3), 0);
    }
}
