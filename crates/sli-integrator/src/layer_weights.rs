//! The weights of a layer, for a person who checks a model against its paper.

use serde::Serialize;
use sli_core::{Group, LoadOp, Place};
use sli_weights::Slot;

use crate::model::OpenModel;

/// A tensor that a layer needs, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerWeight {
    /// What it is for.
    pub role: String,
    /// Its shape once it is loaded; matrices are [out, in].
    pub shape: Vec<usize>,
    /// The tensor of the checkpoint that it is, or is a part of. Several are joined: `NAME + NAME`.
    pub stored: String,
    /// That tensor's shape; of several, that of all.
    pub stored_shape: Vec<usize>,
    /// Steps from the stored tensor to the needed one, first to last.
    pub steps: Vec<String>,
}

impl LayerWeight {
    pub(crate) fn of_layer(model: &OpenModel, index: usize) -> Vec<Self> {
        let layers =
            |stack: usize| (0..model.spec.stacks[stack].layers.len()).map(move |layer| (stack, layer));
        let place = (0..model.spec.stacks.len()).flat_map(layers).nth(index);
        let Some((stack, layer)) = place else { return Vec::new() };
        let place = Place::Layer { stack, layer };
        let groups = [Group::Dense, Group::FeedForward, Group::Expert(0)];
        groups.iter().flat_map(|group| model.layout.slots(place, *group)).map(Self::from).collect()
    }
}

impl From<&Slot> for LayerWeight {
    fn from(slot: &Slot) -> Self {
        Self {
            role: slot.need.key.to_string(),
            shape: slot.need.shape.clone(),
            stored: slot.stored_names().collect::<Vec<_>>().join(" + "),
            stored_shape: slot.stored.shape.clone(),
            steps: slot.ops.iter().map(LoadOp::to_string).collect(),
        }
    }
}
