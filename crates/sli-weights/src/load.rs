//! Reading tensors: a group, a single tensor, some rows of a table.

use std::collections::BTreeMap;
use std::ops::Range;
use std::slice;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sli_core::{Group, HostTensor, Place, Residency, Result, TensorKey, WeightError};

use crate::layout::Layout;
use crate::memory::{Memory, buffer_bytes};
use crate::read_plan::{BlockReader, FileRange, ReadPlan};
use crate::slot::Slot;

/// What is read in one go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReadRequest {
    /// All tensors of a group.
    Group(Place, Group),
    /// All tensors of several groups together; those that the place does not have are left out.
    Groups(Place, &'static [Group]),
    /// One tensor.
    Tensor(Place, TensorKey),
    /// Some rows of one tensor: a tile of the vocabulary matrix, say.
    Rows(Place, TensorKey, Range<usize>),
}

impl From<(Place, Group)> for ReadRequest {
    fn from((place, group): (Place, Group)) -> Self {
        Self::Group(place, group)
    }
}

/// Loaded tensors, in the shapes that the spec asks for.
#[derive(Clone, Debug, Default)]
pub struct GroupTensors {
    tensors: BTreeMap<TensorKey, HostTensor>,
    bytes_read: u64,
    read_time: Duration,
}

impl GroupTensors {
    /// A tensor, where the spec has it.
    pub fn get(&self, key: TensorKey) -> Option<&HostTensor> {
        self.tensors.get(&key)
    }

    /// A tensor that must be there.
    ///
    /// # Errors
    /// [`WeightError::Missing`] when the spec has no such tensor in this group.
    pub fn require(&self, key: TensorKey) -> Result<&HostTensor> {
        let missing = || WeightError::Missing { name: key.to_string(), wanted_for: String::new() };
        Ok(self.get(key).ok_or_else(missing)?)
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, key: TensorKey) -> Option<HostTensor> {
        self.tensors.remove(&key)
    }

    /// All tensors.
    pub fn iter(&self) -> impl Iterator<Item = (TensorKey, &HostTensor)> {
        self.tensors.iter().map(|(key, tensor)| (*key, tensor))
    }

    /// Bytes that were read from files for it.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The time that reading them took.
    pub fn read_time(&self) -> Duration {
        self.read_time
    }
}

impl IntoIterator for GroupTensors {
    type Item = (TensorKey, HostTensor);
    type IntoIter = std::collections::btree_map::IntoIter<TensorKey, HostTensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

impl Layout {
    /// Reads all tensors of some groups, through the page cache. None of groups that the place does not have.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn load_groups(&self, place: Place, groups: &'static [Group]) -> Result<GroupTensors> {
        self.load(&ReadRequest::Groups(place, groups), Memory::unpooled(), &mut self.checkpoint())
    }

    /// Reads one tensor, through the page cache.
    ///
    /// # Errors
    /// [`WeightError::Missing`] when the spec does not need such a tensor there; when a file cannot be read.
    pub fn load_tensor(&self, place: Place, key: TensorKey) -> Result<HostTensor> {
        let slot = self.slot(place, key)?;
        match slot.residency {
            Residency::PerLayer => load_slot(slot, &mut self.checkpoint()),
            Residency::Pinned => self.load_pinned(slot, &mut self.checkpoint()),
        }
    }

    /// Bytes of memory that reading `request` takes: buffers for what is read and for what is copied. Pinned tensors
    /// have theirs for themselves.
    ///
    /// # Errors
    /// When the layout has no such thing.
    pub fn memory_bytes(&self, request: &ReadRequest) -> Result<u64> {
        let (_, slots) = self.requested(request)?;
        let copies = slots.iter().flat_map(Slot::copied_bytes).map(buffer_bytes).sum::<usize>();
        Ok((copies + buffer_bytes(ReadPlan::new(slots.iter().flat_map(Slot::file_ranges)).buffer_bytes()))
            as u64)
    }

    /// Reads what is asked for.
    pub(crate) fn load(
        &self,
        request: &ReadRequest,
        mut memory: Memory,
        reader: &mut dyn BlockReader,
    ) -> Result<GroupTensors> {
        let mut reader = Metered { reader, bytes: 0, time: Duration::ZERO };
        let (pinned, slots) = self.requested(request)?;
        let loaded = load_slots(&slots, &mut memory, &mut reader)?;
        let mut tensors: BTreeMap<_, _> = slots.iter().map(|slot| slot.need.key).zip(loaded).collect();
        for slot in pinned {
            tensors.insert(slot.need.key, self.load_pinned(&slot, &mut reader)?);
        }
        Ok(GroupTensors { tensors, bytes_read: reader.bytes, read_time: reader.time })
    }

    /// The slots of a request: those that stay in memory, and the others.
    fn requested(&self, request: &ReadRequest) -> Result<(Vec<Slot>, Vec<Slot>)> {
        let slots = match request {
            ReadRequest::Group(place, group) => self.slots(*place, *group).to_vec(),
            ReadRequest::Groups(place, groups) => {
                groups.iter().flat_map(|group| self.slots(*place, *group)).cloned().collect()
            }
            ReadRequest::Tensor(place, key) => vec![self.slot(*place, *key)?.clone()],
            ReadRequest::Rows(place, key, rows) => vec![self.slot(*place, *key)?.rows(rows.clone())?],
        };
        Ok(slots.into_iter().partition(|slot| slot.residency == Residency::Pinned))
    }

    /// A tensor that layers share: read by the first, kept for all.
    fn load_pinned(&self, slot: &Slot, reader: &mut dyn BlockReader) -> Result<HostTensor> {
        let kept = self.pinned(slot);
        if let Some(tensor) = kept.and_then(OnceLock::get) {
            return Ok(tensor.clone());
        }
        let tensor = load_slot(slot, reader)?;
        Ok(kept.map_or(tensor.clone(), |kept| kept.get_or_init(|| tensor).clone()))
    }
}

/// Reads one tensor into memory of its own.
pub(crate) fn load_slot(slot: &Slot, reader: &mut dyn BlockReader) -> Result<HostTensor> {
    let mut tensors = load_slots(slice::from_ref(slot), &mut Memory::unpooled(), reader)?;
    Ok(tensors.swap_remove(0))
}

/// Reads some tensors together. They come in the order of the slots.
fn load_slots(slots: &[Slot], memory: &mut Memory, reader: &mut dyn BlockReader) -> Result<Vec<HostTensor>> {
    let plan = ReadPlan::new(slots.iter().flat_map(Slot::file_ranges));
    let mut buffer = memory.buffer(plan.buffer_bytes());
    plan.read(&mut buffer, reader)?;
    let read = buffer.into_bytes();
    let position = |range: FileRange| plan.position_of(&range).expect("the plan was made for it");
    let bytes = |slot: &Slot| slot.file_ranges().map(|range| read.slice(position(range))).collect::<Vec<_>>();
    Ok(slots.iter().map(|slot| slot.finish(bytes(slot).into_iter(), memory)).collect())
}

/// A reader that counts what it reads.
struct Metered<'a> {
    reader: &'a mut dyn BlockReader,
    bytes: u64,
    time: Duration,
}

impl BlockReader for Metered<'_> {
    fn read(&mut self, file: usize, offset: u64, room: &mut [u8], needed: usize) -> Result<()> {
        let start = Instant::now();
        self.reader.read(file, offset, room, needed)?;
        self.bytes += needed as u64;
        self.time += start.elapsed();
        Ok(())
    }

    fn wait_for_turn(&mut self) -> Result<()> {
        self.reader.wait_for_turn()
    }
}
