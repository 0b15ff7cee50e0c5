//! The weight files of a model, opened and checked; not one weight is read yet.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sli_core::{Dtype, HostTensor, Result, SliError, TensorSource, WeightError};

use crate::aligned::AlignedBuffer;
use crate::files::{Found, find_files, part_of};
use crate::header::{StoredDtype, read_header};

/// An open weight file.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    length: u64,
    handle: File,
}

impl WeightFile {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes, when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` with the bytes from `offset` on, through the page cache.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.handle.read_exact_at(buffer, offset).map_err(SliError::io("cannot read", &self.path))
    }

    /// The file, open for ordinary reads.
    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }
}

/// Where and how a tensor is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name in the file.
    pub name: String,
    /// Index into [`Checkpoint::files`].
    pub file: usize,
    /// How its elements are stored.
    pub dtype: StoredDtype,
    /// Sizes of its dimensions, slowest first.
    pub shape: Vec<usize>,
    /// The file's bytes that hold it; their number is checked against dtype and shape.
    pub range: Range<u64>,
}

/// All tensors of a directory of safetensors files, by name. Cloning shares the open files.
///
/// Opening reads and checks the headers. Afterwards every tensor has a range within its file, of the length that its
/// dtype and shape ask for, and a name that no other tensor has.
#[derive(Clone, Debug)]
pub struct Checkpoint(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    directory: PathBuf,
    files: Vec<WeightFile>,
    tensors: Vec<StoredTensor>,
    by_name: HashMap<String, usize>,
    /// Of tensors that were cut into parts for several machines, the parts after the first.
    further_parts: HashMap<String, Vec<StoredTensor>>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names, or the files of parts of
    /// tensors (`NAME-TP-common.safetensors`, `NAME-TP-000.safetensors`, ...), or the one `.safetensors` file of another
    /// name in `directory`.
    ///
    /// # Errors
    /// [`WeightError::NoWeights`] when there are none; [`WeightError::Header`] and [`WeightError::Truncated`] when a
    /// file or the index is not what it should be.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let Found { paths, index } = find_files(directory)?;
        let mut checkpoint = Inner { directory: directory.into(), ..Inner::default() };
        for path in paths {
            checkpoint.add(path)?;
        }
        if let Some(index) = index {
            for (name, path) in &index.weight_map {
                let found =
                    checkpoint.by_name.get(name).map(|i| &checkpoint.files[checkpoint.tensors[*i].file]);
                if found.is_none_or(|file| file.path != *path) {
                    return Err(index.malformed(format!("'{name}' is not in {}", path.display())).into());
                }
            }
        }
        Ok(Self(Arc::new(checkpoint)))
    }

    /// The directory that was opened.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// The files, in order of their names.
    pub fn files(&self) -> &[WeightFile] {
        &self.0.files
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> &[StoredTensor] {
        &self.0.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.0.by_name.get(name).map(|index| &self.0.tensors[*index])
    }

    /// The parts of a tensor after the one that bears its name, in order.
    pub(crate) fn further_parts(&self, name: &str) -> &[StoredTensor] {
        self.0.further_parts.get(name).map_or(&[], Vec::as_slice)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        let parts = self.0.further_parts.values().flatten();
        self.tensors().iter().chain(parts).map(|tensor| tensor.range.end - tensor.range.start).sum()
    }
}

impl Inner {
    /// Opens a file and takes in its tensors.
    fn add(&mut self, path: PathBuf) -> Result<()> {
        let handle = File::open(&path).map_err(SliError::io("cannot open", &path))?;
        let length = handle.metadata().map_err(SliError::io("cannot read", &path))?.len();
        let file = self.files.len();
        let part = part_of(&path).unwrap_or(0);
        for entry in read_header(&handle, &path, length)? {
            let (name, dtype, shape, range) = (entry.name, entry.dtype, entry.shape, entry.range);
            let tensor = StoredTensor { name, file, dtype, shape, range };
            let Some(first) = self.by_name.get(&tensor.name) else {
                self.by_name.insert(tensor.name.clone(), self.tensors.len());
                self.tensors.push(tensor);
                continue;
            };
            let parts = self.further_parts.entry(tensor.name.clone()).or_default();
            let next = parts.len() + 1;
            if part != next {
                let other = self.files[self.tensors[*first].file].path.display();
                let message = match part > next {
                    true => format!("part {next} of tensor '{}' is in no file", tensor.name),
                    false => format!("tensor '{}' is also in {other}", tensor.name),
                };
                return Err(WeightError::Header { path, message }.into());
            }
            parts.push(tensor);
        }
        self.files.push(WeightFile { path, length, handle });
        Ok(())
    }
}

impl TensorSource for Checkpoint {
    fn names(&self) -> Vec<String> {
        self.tensors().iter().map(|tensor| tensor.name.clone()).collect()
    }

    /// `None` also for a tensor whose dtype [`Dtype`] has no word for; [`Checkpoint::tensor`] tells them apart.
    fn describe(&self, name: &str) -> Option<(Dtype, Vec<usize>)> {
        let tensor = self.tensor(name)?;
        match tensor.dtype {
            StoredDtype::Known(dtype) => Some((dtype, tensor.shape.clone())),
            StoredDtype::Other { .. } => None,
        }
    }

    fn read(&self, name: &str) -> Result<HostTensor> {
        let missing = || WeightError::Missing { name: name.into(), wanted_for: String::new() };
        let tensor = self.tensor(name).ok_or_else(missing)?;
        let StoredDtype::Known(dtype) = tensor.dtype else {
            return Err(WeightError::Dtype { name: name.into(), dtype: tensor.dtype.to_string() }.into());
        };
        // A buffer of its own starts at a block, so the elements are aligned wherever they lie in the file.
        let length = (tensor.range.end - tensor.range.start) as usize;
        let mut buffer = AlignedBuffer::new(length);
        self.files()[tensor.file].read_at(&mut buffer[..length], tensor.range.start)?;
        Ok(HostTensor::new(dtype, tensor.shape.clone(), Bytes::from_owner(buffer).slice(..length)))
    }
}
