//! Which stored tensor fills which need: the whole model checked against the checkpoint before a weight is read.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use sli_core::{
    Group, HostTensor, LoadOp, ModelSpec, Place, Residency, Result, TensorKey, TensorNeed, TensorRole,
    WeightError, WeightMap, WeightSource,
};

use crate::checkpoint::{Checkpoint, StoredTensor};
use crate::read_plan::distinct_bytes;
use crate::scales::{ScaleSlot, scales_names};
use crate::slot::Slot;

/// Every tensor that a model needs, found in a checkpoint, by place and group.
#[derive(Debug)]
pub struct Layout {
    checkpoint: Checkpoint,
    groups: Vec<GroupSlots>,
    index: HashMap<(Place, Group), usize>,
    /// Tensors that several layers share, by what they are loaded from.
    pinned: Vec<(Slot, OnceLock<HostTensor>)>,
}

/// What is read together.
#[derive(Debug)]
struct GroupSlots {
    place: Place,
    group: Group,
    slots: Vec<Slot>,
}

impl Layout {
    /// Finds every tensor that `spec` needs where `map` says that it lies, and checks shapes and dtypes.
    ///
    /// # Errors
    /// [`WeightError::Missing`], [`WeightError::Shape`] and [`WeightError::Dtype`] for the first need that cannot be
    /// filled; [`SliError::Usage`](sli_core::SliError::Usage) when the map's steps make no sense for a shape; [`WeightError::Surplus`] when tensors are left over that the map does not list as harmless.
    pub fn new(checkpoint: &Checkpoint, spec: &ModelSpec, map: &WeightMap) -> Result<Self> {
        let names = Names::new(checkpoint, map);
        let prefix = names.prefix(map);
        let mut layout = Self {
            checkpoint: checkpoint.clone(),
            groups: Vec::new(),
            index: HashMap::new(),
            pinned: Vec::new(),
        };
        for (place, needs) in needs_by_place(spec) {
            for need in needs {
                let wanted = |name: String| WeightError::Missing {
                    name,
                    wanted_for: format!("{place}, {}", need.key),
                };
                let mut source = map
                    .source(place, need.key, prefix)
                    .filter(|source| !source.names.is_empty())
                    .ok_or_else(|| wanted("(this architecture has no name for it)".into()))?;
                let stored = source.names.iter().find_map(|name| names.find(name));
                let stored = stored.ok_or_else(|| wanted(source.names[0].clone()))?;
                let find_rest = |name: &String| names.find(name).cloned().ok_or_else(|| wanted(name.clone()));
                let mut rest = source.rest.iter().map(find_rest).collect::<Result<Vec<_>, _>>()?;
                let parts = checkpoint.further_parts(&stored.name);
                if !parts.is_empty() {
                    join_parts(stored, parts, &need, &mut source);
                    rest = [parts, &rest].concat();
                }
                let scales = scales_names(stored, &source.ops).iter().find_map(|name| names.find(name));
                let expert = need.key.role.expert();
                let scales = scales
                    .map(|scales| ScaleSlot::new(stored, scales.clone(), map.fp8_block, expert, &source.ops));
                layout
                    .add(place, Slot::new(place, need, stored.clone(), rest, &source, scales.transpose()?)?);
            }
        }
        layout.check_coverage(map, prefix)?;
        Ok(layout)
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The places in the order in which a model runs through them. Places that need no tensor are left out.
    pub fn places(&self) -> Vec<Place> {
        let mut places: Vec<_> = self.groups.iter().map(|group| group.place).collect();
        places.dedup();
        places
    }

    /// The groups of a place: what every token goes through, then its experts.
    pub fn groups(&self, place: Place) -> impl Iterator<Item = Group> {
        self.groups.iter().filter(move |group| group.place == place).map(|group| group.group)
    }

    /// The tensors of a group. Empty when there is no such group.
    pub fn slots(&self, place: Place, group: Group) -> &[Slot] {
        self.index.get(&(place, group)).map_or(&[], |index| &self.groups[*index].slots)
    }

    /// One tensor.
    ///
    /// # Errors
    /// [`WeightError::Missing`] when the spec does not need such a tensor there.
    pub fn slot(&self, place: Place, key: TensorKey) -> Result<&Slot> {
        let groups = match key.role.expert() {
            Some(expert) => vec![Group::Expert(expert)],
            None => vec![Group::Dense, Group::FeedForward],
        };
        let slots = groups.into_iter().flat_map(|group| self.slots(place, group));
        let slot = slots.into_iter().find(|slot| slot.need.key == key);
        let (name, wanted_for) = (key.to_string(), place.to_string());
        Ok(slot.ok_or(WeightError::Missing { name, wanted_for })?)
    }

    /// Bytes of the checkpoint that belong to a group, without pinned tensors. Bytes that tensors share count once.
    pub fn group_bytes(&self, place: Place, group: Group) -> u64 {
        let streamed = self.slots(place, group).iter().filter(|slot| slot.residency == Residency::PerLayer);
        distinct_bytes(streamed.flat_map(Slot::file_ranges))
    }

    /// Bytes of tensors that stay in memory once they are loaded.
    pub fn pinned_bytes(&self) -> u64 {
        self.pinned.iter().map(|(slot, _)| slot.bytes() as u64).sum()
    }

    /// Bytes of the checkpoint that the model needs. Bytes that several places share count once.
    pub fn total_bytes(&self) -> u64 {
        distinct_bytes(self.groups.iter().flat_map(|group| &group.slots).flat_map(Slot::file_ranges))
    }

    /// The pinned tensor of a slot, once it is loaded, and where to put it.
    pub(crate) fn pinned(&self, slot: &Slot) -> Option<&OnceLock<HostTensor>> {
        self.pinned.iter().find(|(pinned, _)| pinned.loads_the_same_as(slot)).map(|(_, tensor)| tensor)
    }

    fn add(&mut self, place: Place, slot: Slot) {
        if slot.residency == Residency::Pinned && self.pinned(&slot).is_none() {
            self.pinned.push((slot.clone(), OnceLock::new()));
        }
        let group = slot.need.group;
        let index = *self.index.entry((place, group)).or_insert_with(|| {
            self.groups.push(GroupSlots { place, group, slots: Vec::new() });
            self.groups.len() - 1
        });
        self.groups[index].slots.push(slot);
    }

    fn check_coverage(&self, map: &WeightMap, prefix: &str) -> Result<()> {
        let slots = self.groups.iter().flat_map(|group| &group.slots);
        let used: HashSet<_> = slots.flat_map(Slot::names).collect();
        let is_surplus = |name: &str| {
            !used.contains(name)
                && !map.is_ignored(name, prefix)
                && !map.is_ignored(&map.meant_name(name), prefix)
        };
        let names = self.checkpoint.tensors().iter().map(|tensor| &tensor.name);
        let names: Vec<_> = names.filter(|name| is_surplus(name)).cloned().collect();
        if names.is_empty() { Ok(()) } else { Err(WeightError::Surplus { names }.into()) }
    }
}

/// Adds the step that joins a tensor's parts, of which the shapes say whether they were cut off its rows or its columns.
fn join_parts(first: &StoredTensor, further: &[StoredTensor], need: &TensorNeed, source: &mut WeightSource) {
    let whole = source.stored_shape(&need.shape);
    if first.shape.get(1..) != whole.get(1..) {
        source.ops.insert(0, LoadOp::JoinColumns { parts: 1 + further.len() });
    }
}

/// All needs of a model, in the order in which it runs.
fn needs_by_place(spec: &ModelSpec) -> Vec<(Place, Vec<TensorNeed>)> {
    let mut places = Vec::new();
    for (stack, stack_spec) in spec.stacks.iter().enumerate() {
        let hidden = stack_spec.hidden_size;
        places.push((Place::Embedding { stack }, stack_spec.embedding.needs(hidden)));
        for (layer, block) in stack_spec.layers.iter().enumerate() {
            places.push((Place::Layer { stack, layer }, block.needs(hidden)));
        }
        places.push((Place::FinalNorm { stack }, stack_spec.final_norm_needs()));
    }
    if let (Some(head), Some(stack)) = (&spec.head, spec.stacks.last()) {
        places.push((Place::Head, head.needs(stack.final_width())));
    }
    places
}

/// The checkpoint's tensors by the names that the map uses.
struct Names<'a> {
    checkpoint: &'a Checkpoint,
    /// From meant names to stored ones, where they differ.
    renamed: HashMap<String, &'a str>,
}

impl<'a> Names<'a> {
    fn new(checkpoint: &'a Checkpoint, map: &WeightMap) -> Self {
        let stored = checkpoint.tensors().iter().map(|tensor| tensor.name.as_str());
        let renamed =
            stored.map(|name| (map.meant_name(name), name)).filter(|(meant, stored)| meant != stored);
        Self { checkpoint, renamed: renamed.collect() }
    }

    fn find(&self, name: &str) -> Option<&'a StoredTensor> {
        let stored = || self.renamed.get(name).and_then(|stored| self.checkpoint.tensor(stored));
        self.checkpoint.tensor(name).or_else(stored)
    }

    /// The prefix under which the checkpoint has the first stack's token embedding; the first one when it has none.
    fn prefix(&self, map: &WeightMap) -> &'static str {
        let (place, key) = (Place::Embedding { stack: 0 }, TensorRole::TokenEmbedding.weight());
        let has_embedding = |prefix: &&&'static str| {
            let source = map.source(place, key, prefix);
            source.is_some_and(|source| source.names.iter().any(|name| self.find(name).is_some()))
        };
        let prefix = map.prefixes.iter().find(has_embedding).or(map.prefixes.first());
        prefix.copied().unwrap_or_default()
    }
}
