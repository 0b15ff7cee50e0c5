//! Outputs over tokens or samples: rows in safetensors parts of whole samples.
//!
//! The size of each part is known before the run, so that rows are written where they belong as chunks finish, in any
//! order, and an interrupted run goes on in the same files. A part appears under its name when all its rows are there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Map, Value, json};
use sli_cache::AtomicFile;
use sli_core::{Result, SliError};

/// Parts hold at most about this many bytes (and at least one sample).
const PART_BYTES: u64 = 1 << 30;

/// A tensor of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    name: &'static str,
    dtype: &'static str,
    element_bytes: usize,
    /// Elements per row; `None` for a plain vector over rows.
    width: Option<usize>,
}

impl Column {
    /// A column of f32.
    pub(crate) fn f32(name: &'static str, width: Option<usize>) -> Self {
        Self { name, dtype: "F32", element_bytes: 4, width }
    }

    /// A column of i32.
    pub(crate) fn i32(name: &'static str, width: Option<usize>) -> Self {
        Self { name, dtype: "I32", element_bytes: 4, width }
    }

    /// A column in a 16-bit dtype, `F16` or `BF16`.
    pub(crate) fn half(name: &'static str, dtype: &'static str, width: usize) -> Self {
        Self { name, dtype, element_bytes: 2, width: Some(width) }
    }

    fn row_bytes(&self) -> u64 {
        (self.width.unwrap_or(1) * self.element_bytes) as u64
    }
}

/// Some samples and where their rows lie in a file.
#[derive(Debug)]
struct Part {
    rows: Range<usize>,
    header: Vec<u8>,
    /// Where each column starts in the file.
    starts: Vec<u64>,
    offsets: Vec<i64>,
    file_bytes: u64,
}

/// A part that is being written.
#[derive(Debug)]
struct OpenPart {
    file: AtomicFile,
    rows_missing: usize,
}

/// A folder of parts.
#[derive(Debug)]
pub(crate) struct RowsOutput {
    folder: PathBuf,
    columns: Vec<Column>,
    parts: Vec<Part>,
    open: Mutex<BTreeMap<usize, OpenPart>>,
}

impl RowsOutput {
    /// An output with `lengths[i]` rows for sample i, of which the first `rows_done` were written by an earlier
    /// process.
    pub(crate) fn new(
        folder: PathBuf,
        columns: Vec<Column>,
        lengths: &[usize],
        rows_done: usize,
    ) -> Result<Self> {
        std::fs::create_dir_all(&folder).map_err(SliError::io("cannot create", &folder))?;
        let parts = parts(&columns, lengths);
        let output = Self { folder, columns, parts, open: Mutex::default() };
        if rows_done == 0 {
            output.remove_parts()?;
        }
        for index in 0..output.parts.len() {
            let rows = output.parts[index].rows.clone();
            if (rows.start + 1..rows.end).contains(&rows_done) {
                let file = output.reopen(index)?;
                output.lock().insert(index, OpenPart { file, rows_missing: rows.end - rows_done });
            }
        }
        Ok(output)
    }

    /// Writes whole rows of a column, `first_row` being counted over all parts.
    pub(crate) fn write(&self, column: usize, first_row: usize, bytes: &[u8]) -> Result<()> {
        let row_bytes = self.columns[column].row_bytes() as usize;
        let rows = first_row..first_row + bytes.len() / row_bytes;
        for index in self.parts_of(&rows) {
            let part = self.parts[index].rows.clone();
            let here = rows.start.max(part.start)..rows.end.min(part.end);
            let slice = &bytes[(here.start - first_row) * row_bytes..(here.end - first_row) * row_bytes];
            let start = self.parts[index].starts[column] + ((here.start - part.start) * row_bytes) as u64;
            self.with_part(index, |open| open.file.write_at(slice, start))?;
        }
        Ok(())
    }

    /// Writes elements `first..` of one row each of `tile_width`, for rows that come in tiles of columns.
    pub(crate) fn write_tile(
        &self,
        column: usize,
        first_row: usize,
        first: usize,
        tile_width: usize,
        bytes: &[u8],
    ) -> Result<()> {
        let spec = &self.columns[column];
        if first == 0 && spec.width == Some(tile_width) {
            return self.write(column, first_row, bytes);
        }
        for (i, tile) in bytes.chunks_exact(tile_width * spec.element_bytes).enumerate() {
            let row = first_row + i;
            for index in self.parts_of(&(row..row + 1)) {
                let part = &self.parts[index];
                let in_row = (first * spec.element_bytes) as u64;
                let start = part.starts[column] + (row - part.rows.start) as u64 * spec.row_bytes() + in_row;
                self.with_part(index, |open| open.file.write_at(tile, start))?;
            }
        }
        Ok(())
    }

    /// Says that all columns of these rows are written. Parts that are complete appear under their names.
    pub(crate) fn rows_done(&self, rows: Range<usize>) -> Result<()> {
        for index in self.parts_of(&rows) {
            let part = self.parts[index].rows.clone();
            let here = rows.end.min(part.end) - rows.start.max(part.start);
            let missing = self.with_part(index, |open| {
                open.rows_missing -= here;
                Ok(open.rows_missing)
            })?;
            if missing == 0
                && let Some(open) = self.lock().remove(&index)
            {
                open.file.finish()?;
            }
        }
        Ok(())
    }

    /// Makes everything written so far survive a crash.
    pub(crate) fn sync(&self) -> Result<()> {
        self.lock().values().try_for_each(|open| open.file.sync())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, OpenPart>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn path(&self, part: usize) -> PathBuf {
        self.folder.join(format!("part-{part:05}.safetensors"))
    }

    fn parts_of(&self, rows: &Range<usize>) -> Range<usize> {
        let first = self.parts.partition_point(|part| part.rows.end <= rows.start);
        let last = self.parts.partition_point(|part| part.rows.start < rows.end);
        first..last.max(first)
    }

    /// Runs `f` on a part, beginning its file when it has none yet.
    fn with_part<T>(&self, index: usize, f: impl FnOnce(&mut OpenPart) -> Result<T>) -> Result<T> {
        let mut open = self.lock();
        match open.entry(index) {
            Entry::Occupied(mut part) => f(part.get_mut()),
            Entry::Vacant(place) => f(place.insert(self.begin(index)?)),
        }
    }

    fn begin(&self, index: usize) -> Result<OpenPart> {
        let (part, path) = (&self.parts[index], self.path(index));
        let file = AtomicFile::create(&path)?;
        file.file().set_len(part.file_bytes).map_err(SliError::io("cannot write", &path))?;
        file.write_at(&part.header, 0)?;
        let offsets: Vec<u8> = part.offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        file.write_at(&offsets, part.starts[self.columns.len()])?;
        Ok(OpenPart { file, rows_missing: part.rows.len() })
    }

    /// Goes on with a part. One that was completed just before a crash, but not committed, is opened up again.
    fn reopen(&self, index: usize) -> Result<AtomicFile> {
        let path = self.path(index);
        if path.exists() {
            let partial = path.with_added_extension("partial");
            std::fs::rename(&path, &partial).map_err(SliError::io("cannot rename", &path))?;
        }
        AtomicFile::reopen(path)
    }

    /// Removes parts of an earlier run, which may have had more of them.
    fn remove_parts(&self) -> Result<()> {
        let entries = std::fs::read_dir(&self.folder).map_err(SliError::io("cannot read", &self.folder))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if is_part(&path) {
                std::fs::remove_file(&path).map_err(SliError::io("cannot remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Whatever ends a run, its unfinished parts stay for the process that goes on.
impl Drop for RowsOutput {
    fn drop(&mut self) {
        for (index, open) in std::mem::take(&mut *self.lock()) {
            if let Err(error) = open.file.keep() {
                tracing::warn!("{}: {error}", self.path(index).display());
            }
        }
    }
}

fn is_part(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("part-"))
}

/// Cuts samples into parts and lays out their files.
fn parts(columns: &[Column], lengths: &[usize]) -> Vec<Part> {
    let row_bytes: u64 = columns.iter().map(Column::row_bytes).sum();
    let mut parts = Vec::new();
    let (mut first_row, mut sample) = (0, 0);
    while sample < lengths.len() {
        let mut offsets = vec![0];
        let mut rows = 0;
        while sample < lengths.len()
            && (rows == 0 || (rows + lengths[sample]) as u64 * row_bytes <= PART_BYTES)
        {
            rows += lengths[sample];
            offsets.push(rows as i64);
            sample += 1;
        }
        parts.push(part(columns, first_row..first_row + rows, offsets));
        first_row += rows;
    }
    parts
}

fn part(columns: &[Column], rows: Range<usize>, offsets: Vec<i64>) -> Part {
    let mut header = Map::new();
    let mut end = 0;
    let mut begin = Vec::new();
    let mut tensor = |name: &str, dtype: &str, shape: Value, bytes: u64| {
        header
            .insert(name.into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes]}));
        begin.push(end);
        end += bytes;
    };
    // The offsets come last, so that the columns keep the alignment of the data's start.
    for column in columns {
        let shape = column.width.map_or(json!([rows.len()]), |width| json!([rows.len(), width]));
        tensor(column.name, column.dtype, shape, rows.len() as u64 * column.row_bytes());
    }
    tensor("offsets", "I64", json!([offsets.len()]), offsets.len() as u64 * 8);

    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize((text.len() + 8).next_multiple_of(64) - 8, b' ');
    let header = [&(text.len() as u64).to_le_bytes()[..], &text].concat();
    let data = header.len() as u64;
    Part {
        rows,
        starts: begin.into_iter().map(|at| data + at).collect(),
        offsets,
        file_bytes: data + end,
        header,
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn rows_written_in_any_order_make_a_safetensors_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("hidden");
        let columns = vec![Column::f32("hidden_states", Some(2))];
        let output = RowsOutput::new(folder.clone(), columns, &[2, 1], 0).unwrap();
        output.write(0, 2, &bytes(&[5.0, 6.0])).unwrap();
        output.rows_done(2..3).unwrap();
        assert!(!folder.join("part-00000.safetensors").exists());
        output.write_tile(0, 0, 1, 1, &bytes(&[2.0, 4.0])).unwrap();
        output.write_tile(0, 0, 0, 1, &bytes(&[1.0, 3.0])).unwrap();
        output.rows_done(0..2).unwrap();

        let file = std::fs::read(folder.join("part-00000.safetensors")).unwrap();
        let read = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(read.tensor("hidden_states").unwrap().shape(), [3, 2]);
        assert_eq!(read.tensor("hidden_states").unwrap().data(), bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let offsets: Vec<u8> = [0i64, 2, 3].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(read.tensor("offsets").unwrap().data(), offsets);
    }

    #[test]
    fn an_interrupted_part_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("hidden");
        let columns = || vec![Column::f32("hidden_states", Some(1))];
        let output = RowsOutput::new(folder.clone(), columns(), &[2, 2], 0).unwrap();
        output.write(0, 0, &bytes(&[1.0, 2.0])).unwrap();
        output.rows_done(0..2).unwrap();
        drop(output);

        let output = RowsOutput::new(folder.clone(), columns(), &[2, 2], 2).unwrap();
        output.write(0, 2, &bytes(&[3.0, 4.0])).unwrap();
        output.rows_done(2..4).unwrap();
        let file = std::fs::read(folder.join("part-00000.safetensors")).unwrap();
        let read = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(read.tensor("hidden_states").unwrap().data(), bytes(&[1.0, 2.0, 3.0, 4.0]));
    }

    #[test]
    fn parts_hold_whole_samples() {
        let width = (PART_BYTES / 4 / 100) as usize; // 100 rows fill a part
        let columns = [Column::f32("hidden_states", Some(width))];
        let rows: Vec<_> = parts(&columns, &[60, 40, 1, 250, 10]).into_iter().map(|part| part.rows).collect();
        assert_eq!(rows, [0..100, 100..101, 101..351, 351..361]);
    }
}
