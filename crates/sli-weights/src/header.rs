//! The header of a safetensors file: eight bytes of length, then JSON that says where each tensor lies.
//!
//! Files come from strangers, so nothing in a header is believed before it is checked against the file's length. The
//! rules are those of the format's description: ranges neither overlap nor leave holes, and each holds exactly
//! dtype * shape bytes.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use sli_core::{Dtype, Result, SliError, WeightError};

/// The longest header that is read. The format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the length before the JSON.
const LENGTH_BYTES: u64 = 8;

/// How a file says that a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredDtype {
    /// A dtype that can be worked with.
    Known(Dtype),
    /// A dtype of the format that this program has no use for; such a tensor may be ignored, never read.
    Other {
        /// The format's name for it.
        name: &'static str,
        /// Bits per element.
        bits: u8,
    },
}

impl StoredDtype {
    /// The dtype that a header names, `None` for a name that the format does not have.
    fn from_name(name: &str) -> Option<Self> {
        const KNOWN: [(&str, Dtype); 11] = [
            ("F64", Dtype::F64),
            ("F32", Dtype::F32),
            ("F16", Dtype::F16),
            ("BF16", Dtype::Bf16),
            ("F8_E4M3", Dtype::F8E4m3),
            ("F8_E8M0", Dtype::F8E8m0),
            ("I64", Dtype::I64),
            ("I32", Dtype::I32),
            ("I8", Dtype::I8),
            ("U8", Dtype::U8),
            ("BOOL", Dtype::Bool),
        ];
        const OTHER: [(&str, u8); 11] = [
            ("C64", 64),
            ("U64", 64),
            ("U32", 32),
            ("I16", 16),
            ("U16", 16),
            ("F8_E5M2", 8),
            ("F8_E4M3FNUZ", 8),
            ("F8_E5M2FNUZ", 8),
            ("F6_E2M3", 6),
            ("F6_E3M2", 6),
            ("F4", 4),
        ];
        let known = KNOWN.iter().find(|(n, _)| *n == name).map(|(_, dtype)| Self::Known(*dtype));
        known.or_else(|| {
            OTHER.iter().find(|(n, _)| *n == name).map(|(name, bits)| Self::Other { name, bits: *bits })
        })
    }

    fn bits(self) -> u64 {
        match self {
            Self::Known(dtype) => dtype.size() as u64 * 8,
            Self::Other { bits, .. } => u64::from(bits),
        }
    }
}

impl fmt::Display for StoredDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(dtype) => dtype.fmt(f),
            Self::Other { name, .. } => f.write_str(name),
        }
    }
}

/// A tensor as it lies in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderEntry {
    pub(crate) name: String,
    pub(crate) dtype: StoredDtype,
    pub(crate) shape: Vec<usize>,
    /// Bytes of the file, counted from its start.
    pub(crate) range: Range<u64>,
}

/// Reads and checks the header of a file of `length` bytes. The tensors come in file order.
///
/// # Errors
/// [`WeightError::Header`] and [`WeightError::Truncated`] for a header that does not describe the file.
pub(crate) fn read_header(file: &File, path: &Path, length: u64) -> Result<Vec<HeaderEntry>> {
    let malformed = |message: String| WeightError::Header { path: path.into(), message };
    let truncated = |expected| WeightError::Truncated { path: path.into(), found: length, expected };
    let read_failed = |error: io::Error| SliError::io("cannot read", path)(error);

    if length < LENGTH_BYTES {
        return Err(truncated(LENGTH_BYTES).into());
    }
    let mut prefix = [0; LENGTH_BYTES as usize];
    file.read_exact_at(&mut prefix, 0).map_err(read_failed)?;
    if &prefix == b"version " {
        let message = "is a pointer of Git LFS, not the weights: fetch them with `git lfs pull`";
        return Err(malformed(message.into()).into());
    }
    let header_bytes = u64::from_le_bytes(prefix);
    if header_bytes > MAX_HEADER {
        return Err(malformed(format!("not a safetensors file: a header of {header_bytes} bytes")).into());
    }
    let data_start = LENGTH_BYTES + header_bytes;
    if data_start > length {
        return Err(truncated(data_start).into());
    }
    let mut json = vec![0; header_bytes as usize];
    file.read_exact_at(&mut json, LENGTH_BYTES).map_err(read_failed)?;
    let RawHeader(raw) = serde_json::from_slice(&json)
        .map_err(|error| malformed(format!("the header is not what the format asks for: {error}")))?;

    let mut entries = raw
        .into_iter()
        .map(|(name, raw)| raw.checked(name, data_start))
        .collect::<Result<Vec<_>, String>>()
        .map_err(malformed)?;
    entries.sort_by_key(|entry| (entry.range.start, entry.range.end));
    let end = check_tiling(&entries, data_start).map_err(malformed)?;
    match end {
        end if end > length => Err(truncated(end).into()),
        end if end < length => Err(malformed(format!("{} bytes belong to no tensor", length - end)).into()),
        _ => Ok(entries),
    }
}

/// Checks that sorted ranges lie end to end from `start`, and returns where they end.
fn check_tiling(entries: &[HeaderEntry], start: u64) -> Result<u64, String> {
    let mut end = start;
    for entry in entries {
        if entry.range.start != end {
            let how = if entry.range.start < end { "overlaps" } else { "leaves a hole after" };
            return Err(format!("tensor '{}' {how} the one before it", entry.name));
        }
        end = entry.range.end;
    }
    Ok(end)
}

/// What the JSON says of one tensor.
#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl RawEntry {
    fn checked(self, name: String, data_start: u64) -> Result<HeaderEntry, String> {
        let dtype = StoredDtype::from_name(&self.dtype)
            .ok_or_else(|| format!("tensor '{name}' has the unknown dtype '{}'", self.dtype))?;
        let bits = self.shape.iter().try_fold(dtype.bits(), |bits, size| bits.checked_mul(*size));
        let shape = self.shape.iter().map(|size| usize::try_from(*size).ok()).collect::<Option<Vec<_>>>();
        let (Some(bits), Some(shape)) = (bits, shape) else {
            return Err(format!("tensor '{name}' of shape {:?} is larger than any file", self.shape));
        };
        let [begin, end] = self.data_offsets;
        let range = data_start.checked_add(begin).zip(data_start.checked_add(end));
        let Some((start, end)) = range.filter(|_| begin <= end) else {
            return Err(format!("tensor '{name}' lies at impossible offsets {begin}..{end}"));
        };
        if bits % 8 != 0 {
            return Err(format!("tensor '{name}', {dtype} {shape:?}, is no whole number of bytes"));
        }
        let (found, expected) = (end - start, bits / 8);
        if found != expected {
            return Err(format!(
                "tensor '{name}', {dtype} {shape:?}, has {found} bytes instead of {expected}"
            ));
        }
        Ok(HeaderEntry { name, dtype, shape, range: start..end })
    }
}

/// All tensors of a header. Read entry by entry, because a map would hide a name that comes twice.
struct RawHeader(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with an entry per tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let (mut entries, mut seen) = (Vec::new(), HashSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("'{name}' comes twice")));
                    }
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(RawHeader(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
