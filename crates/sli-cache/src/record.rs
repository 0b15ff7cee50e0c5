//! A chunk in a file: one header block that says what follows and carries checksums, then the values.
//!
//! ```text
//! 0      8      12      16                      4096
//! | magic | crc | length | header as JSON, zeros | hidden [count, width] f32 | carry ... |
//! ```
//! Numbers are in the byte order of the machine; a file of another byte order shows a wrong magic number.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sli_core::{ByteSize, Carry, ChunkState, Generation, Rows, SliError};

/// Bytes of the header block; records start at multiples of it.
pub(crate) const BLOCK: u64 = 4096;

const MAGIC: u64 = u64::from_be_bytes(*b"SLIchnk1");
const PREFIX: usize = 16;

/// What can be wrong with a stored chunk. It is the source of the [`SliError::Io`] that a store returns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// Nothing was put there, or it was released or dropped.
    #[error("chunk {chunk} of generation '{}' is not there", generation_name(*.generation))]
    Missing {
        /// The generation asked for.
        generation: Generation,
        /// The chunk asked for.
        chunk: usize,
    },
    /// Its bytes are not those that were put: a write was cut off, or the disk is failing.
    #[error("chunk {chunk} of generation '{}' is damaged: {message}", generation_name(*.generation))]
    Damaged {
        /// The generation asked for.
        generation: Generation,
        /// The chunk asked for.
        chunk: usize,
        /// What does not fit.
        message: String,
    },
    /// Something whole lies there, but not this chunk.
    #[error("chunk {chunk} of generation '{}' is not what lies in its place: {message}", generation_name(*.generation))]
    Foreign {
        /// The generation asked for.
        generation: Generation,
        /// The chunk asked for.
        chunk: usize,
        /// What lies there.
        message: String,
    },
    /// It does not fit into the room that was set aside for it.
    #[error(
        "chunk {chunk} of generation '{}' has {} of values, its slot holds {}",
        generation_name(*.generation), ByteSize(*.bytes), ByteSize(*.capacity)
    )]
    TooLarge {
        /// The chunk's generation.
        generation: Generation,
        /// The chunk.
        chunk: usize,
        /// Bytes of its values.
        bytes: u64,
        /// Bytes that its slot holds.
        capacity: u64,
    },
    /// The names of what is carried are too long for a header block.
    #[error("chunk {chunk} of generation '{}' carries more names than a header holds", generation_name(*.generation))]
    HeaderTooLarge {
        /// The chunk's generation.
        generation: Generation,
        /// The chunk.
        chunk: usize,
    },
}

impl ChunkError {
    /// The error that the store returns, with the file or directory that it is about.
    pub(crate) fn at(self, path: &Path) -> SliError {
        let (action, kind) = match self {
            Self::Missing { .. } => ("cannot read", io::ErrorKind::NotFound),
            Self::Damaged { .. } | Self::Foreign { .. } => ("cannot read", io::ErrorKind::InvalidData),
            Self::TooLarge { .. } | Self::HeaderTooLarge { .. } => {
                ("cannot write", io::ErrorKind::InvalidInput)
            }
        };
        SliError::Io { action, path: path.into(), source: io::Error::new(kind, self) }
    }
}

/// The generation's name in file names and messages.
pub(crate) fn generation_name(generation: Generation) -> &'static str {
    match generation {
        Generation::Even => "even",
        Generation::Odd => "odd",
        Generation::EncoderOutput => "encoder_output",
    }
}

/// Which chunk a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) generation: Generation,
    pub(crate) chunk: usize,
}

impl Key {
    pub(crate) fn missing(self) -> ChunkError {
        ChunkError::Missing { generation: self.generation, chunk: self.chunk }
    }

    fn damaged(self, message: impl Into<String>) -> ChunkError {
        ChunkError::Damaged { generation: self.generation, chunk: self.chunk, message: message.into() }
    }

    fn foreign(self, message: impl Into<String>) -> ChunkError {
        ChunkError::Foreign { generation: self.generation, chunk: self.chunk, message: message.into() }
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(flatten)]
    key: Key,
    hidden: Shape,
    carry: Vec<(String, Shape)>,
    /// CRC-32 of all values.
    checksum: u32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Shape {
    count: usize,
    width: usize,
}

impl Shape {
    fn of(rows: &Rows) -> Self {
        Self { count: rows.count(), width: rows.width() }
    }
}

impl Header {
    fn shapes(&self) -> impl Iterator<Item = Shape> {
        std::iter::once(self.hidden).chain(self.carry.iter().map(|(_, shape)| *shape))
    }

    /// Bytes of all values; `None` when a shape is one that no [`Rows`] has.
    fn value_bytes(&self) -> Option<u64> {
        self.shapes().try_fold(0u64, |sum, Shape { count, width }| {
            let values = count.checked_mul(width).filter(|_| width > 0)?;
            sum.checked_add((values as u64).checked_mul(4)?)
        })
    }
}

/// Bytes that a record takes up, for this many bytes of values.
pub(crate) fn record_bytes(value_bytes: u64) -> u64 {
    BLOCK.saturating_add(value_bytes.div_ceil(BLOCK).saturating_mul(BLOCK))
}

/// Writes a chunk at `offset`. The caller has made sure that there is room.
pub(crate) fn write(
    file: &File,
    path: &Path,
    offset: u64,
    key: Key,
    state: &ChunkState,
) -> sli_core::Result<()> {
    let parts = || std::iter::once(&state.hidden).chain(state.carry.iter().map(|carry| &carry.rows));
    let mut checksum = crc32fast::Hasher::new();
    parts().for_each(|rows| checksum.update(bytemuck::cast_slice(rows.values())));
    let header = Header {
        key,
        hidden: Shape::of(&state.hidden),
        carry: state.carry.iter().map(|carry| (carry.name.clone(), Shape::of(&carry.rows))).collect(),
        checksum: checksum.finalize(),
    };
    let block = encode_header(&header)
        .ok_or(ChunkError::HeaderTooLarge { generation: key.generation, chunk: key.chunk })
        .map_err(|error| error.at(path))?;

    let cannot_write = || SliError::io("cannot write", path);
    let mut offset = offset;
    file.write_all_at(&block, offset).map_err(cannot_write())?;
    offset += BLOCK;
    for rows in parts() {
        let bytes: &[u8] = bytemuck::cast_slice(rows.values());
        file.write_all_at(bytes, offset).map_err(cannot_write())?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

/// Reads the chunk at `offset`, of at most `capacity` bytes of values, and checks that it is the one meant.
pub(crate) fn read(
    file: &File,
    path: &Path,
    offset: u64,
    capacity: u64,
    key: Key,
) -> sli_core::Result<ChunkState> {
    let mut block = [0; BLOCK as usize];
    match file.read_exact_at(&mut block, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(key.missing().at(path)),
        other => other.map_err(SliError::io("cannot read", path))?,
    }
    let header = decode_header(&block, key, capacity).map_err(|error| error.at(path))?;

    // Before memory is taken for it.
    let mut offset = offset.saturating_add(BLOCK);
    let length = file.metadata().map_err(SliError::io("cannot read", path))?.len();
    if header.value_bytes() > length.checked_sub(offset) {
        return Err(key.damaged("its file ends before its values do").at(path));
    }
    let mut checksum = crc32fast::Hasher::new();
    let mut parts = Vec::with_capacity(1 + header.carry.len());
    for shape in header.shapes() {
        let mut values = vec![0.0; shape.count * shape.width];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        file.read_exact_at(bytes, offset).map_err(SliError::io("cannot read", path))?;
        checksum.update(bytes);
        offset += bytes.len() as u64;
        parts.push(Rows::new(shape.width, values));
    }
    if checksum.finalize() != header.checksum {
        return Err(key.damaged("its values do not match their checksum").at(path));
    }
    let mut parts = parts.into_iter();
    let hidden = parts.next().expect("the hidden state is the first shape");
    let carry = header.carry.into_iter().zip(parts).map(|((name, _), rows)| Carry { name, rows }).collect();
    Ok(ChunkState { hidden, carry })
}

/// The header block; `None` when the text is longer than a block.
fn encode_header(header: &Header) -> Option<[u8; BLOCK as usize]> {
    let text = serde_json::to_vec(header).expect("a header of numbers and names is JSON");
    let mut block = [0; BLOCK as usize];
    block.get_mut(PREFIX..PREFIX + text.len())?.copy_from_slice(&text);
    block[..8].copy_from_slice(&MAGIC.to_ne_bytes());
    block[8..12].copy_from_slice(&crc32fast::hash(&text).to_ne_bytes());
    block[12..16].copy_from_slice(&(text.len() as u32).to_ne_bytes());
    Some(block)
}

/// Checks everything that the header says before any of it is used.
fn decode_header(block: &[u8; BLOCK as usize], key: Key, capacity: u64) -> Result<Header, ChunkError> {
    let number = |at: usize| u32::from_ne_bytes(block[at..at + 4].try_into().expect("four bytes"));
    if block.iter().all(|byte| *byte == 0) {
        return Err(key.missing());
    }
    if block[..8] != MAGIC.to_ne_bytes() {
        return Err(key.foreign("it is no chunk of activations"));
    }
    let text = block
        .get(PREFIX..PREFIX.saturating_add(number(12) as usize))
        .filter(|text| crc32fast::hash(text) == number(8))
        .ok_or_else(|| key.damaged("its header does not match its checksum"))?;
    let header: Header = serde_json::from_slice(text).map_err(|error| key.foreign(error.to_string()))?;
    if header.key != key {
        let Key { generation, chunk } = header.key;
        return Err(key.foreign(format!("chunk {chunk} of generation '{}'", generation_name(generation))));
    }
    match header.value_bytes() {
        Some(bytes) if bytes <= capacity => Ok(header),
        _ => Err(key.foreign(format!("a chunk larger than its slot of {}", ByteSize(capacity)))),
    }
}
