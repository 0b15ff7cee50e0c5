//! Rows of a table, gathered from the file, or from memory where all of it is wanted again and again.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use sli_core::{HostTensor, Result, SliError};

use crate::checkpoint::WeightFile;
use crate::layout::Layout;
use crate::load::load_slot;
use crate::memory::Memory;
use crate::slot::Slot;

/// Rows this close in the file are read together.
const SMALL_GAP: usize = 16 << 10;

/// The most bytes that are read at once.
const LARGEST_READ: usize = 4 << 20;

/// Small reads under way at the same time.
const REQUESTS: usize = 16;

impl Layout {
    /// Rows of a table of this layout, in the order asked for: [rows.len(), width]. A row may be asked for several
    /// times; each is read once, and neighbours are read together, through the page cache.
    ///
    /// # Errors
    /// [`SliError::Usage`] for a row that the table does not have; when the file cannot be read.
    pub fn read_rows(&self, slot: &Slot, rows: &[u32]) -> Result<HostTensor> {
        check_rows(slot, rows)?;
        let Some(starts) = slot.row_starts() else {
            return self.load_table(slot)?.rows(rows);
        };
        let mut memory = Memory::unpooled();
        let shape = [&[rows.len()], &slot.need.shape[1..]].concat();
        let dtype = slot.stored_dtype;
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let row_bytes = bytes / rows.len().max(1);
        let mut out = memory.buffer(bytes);

        // Start in the file and row of the result, in file order.
        let mut wanted: Vec<_> = rows.iter().map(|row| starts[*row as usize]).zip(0..).collect();
        wanted.sort_unstable();
        let runs = Runs { wanted: &wanted, row_bytes }.collect::<Vec<_>>();
        let file = &self.checkpoint().files()[slot.stored.file];
        read_side_by_side(file, slot.range.start, &runs, row_bytes, |run, read| {
            let (first, _) = run[0];
            for (start, row) in run {
                out[row * row_bytes..][..row_bytes].copy_from_slice(&read[start - first..][..row_bytes]);
            }
        })?;
        let rows = HostTensor::new(dtype, shape, out.into_bytes().slice(..bytes));
        Ok(slot.converted(rows, &mut memory))
    }

    /// A table of this layout, as a whole.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load_table<'a>(&self, slot: &'a Slot) -> Result<Table<'a>> {
        let values = load_slot(slot, &mut self.checkpoint())?;
        // Tables are small against what is quantised, and rarely are.
        let values = match values.scales() {
            Some(_) => HostTensor::from_vec(values.to_f32().into_owned(), slot.need.shape.clone()),
            None => values,
        };
        Ok(Table { slot, values })
    }

    /// Rows `rows` of a tensor of this layout: a tile of the vocabulary matrix, say.
    ///
    /// # Errors
    /// As [`Layout::read_rows`].
    pub fn load_row_range(&self, slot: &Slot, rows: Range<usize>) -> Result<HostTensor> {
        load_slot(&slot.rows(rows)?, &mut self.checkpoint())
    }
}

/// A table in memory.
#[derive(Debug)]
pub struct Table<'a> {
    slot: &'a Slot,
    values: HostTensor,
}

impl Table<'_> {
    /// Rows, in the order asked for: [rows.len(), width].
    ///
    /// # Errors
    /// [`SliError::Usage`] for a row that the table does not have.
    pub fn rows(&self, rows: &[u32]) -> Result<HostTensor> {
        check_rows(self.slot, rows)?;
        let table = &self.values;
        let row_bytes = table.bytes().len() / table.shape()[0];
        let bytes = row_bytes * rows.len();
        let mut out = Memory::unpooled().buffer(bytes);
        for (out, row) in out.chunks_exact_mut(row_bytes).zip(rows) {
            out.copy_from_slice(&table.bytes()[*row as usize * row_bytes..][..row_bytes]);
        }
        let shape = [&[rows.len()], &self.slot.need.shape[1..]].concat();
        Ok(HostTensor::new(table.dtype(), shape, out.into_bytes().slice(..bytes)))
    }
}

fn check_rows(slot: &Slot, rows: &[u32]) -> Result<()> {
    let count = slot.need.shape[0];
    match rows.iter().find(|row| **row as usize >= count) {
        Some(row) => {
            let name = &slot.stored.name;
            Err(SliError::Usage(format!("row {row} of tensor '{name}', which has {count} rows")))
        }
        None => Ok(()),
    }
}

/// Rows that are read together, each with its start in the table and its place in the result.
type Run<'a> = &'a [(usize, usize)];

/// Cuts sorted rows into runs.
struct Runs<'a> {
    wanted: &'a [(usize, usize)],
    row_bytes: usize,
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        let (first, _) = *self.wanted.first()?;
        let goes_on = |pair: &&[(usize, usize)]| {
            let gap = pair[1].0 - pair[0].0;
            gap <= self.row_bytes + SMALL_GAP && pair[1].0 - first <= LARGEST_READ
        };
        let length = 1 + self.wanted.windows(2).take_while(goes_on).count();
        let (run, rest) = self.wanted.split_at(length);
        self.wanted = rest;
        Some(run)
    }
}

/// Reads runs with several requests under way, since a disk answers many small ones in the time of one, and gives each
/// to `use_run` with its bytes, in any order.
fn read_side_by_side(
    file: &WeightFile,
    table_start: u64,
    runs: &[Run],
    row_bytes: usize,
    mut use_run: impl FnMut(Run, &[u8]),
) -> Result<()> {
    let read = |run: Run| -> Result<Vec<u8>> {
        let (first, last) = (run[0].0, run[run.len() - 1].0);
        let mut bytes = vec![0; last - first + row_bytes];
        file.read_at(&mut bytes, table_start + first as u64)?;
        Ok(bytes)
    };
    if let [run] = runs {
        use_run(run, &read(run)?);
        return Ok(());
    }
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (done, results) = sync_channel(REQUESTS);
        for _ in 0..REQUESTS.min(runs.len()) {
            let (done, next, read) = (done.clone(), &next, &read);
            scope.spawn(move || {
                // The receiver is gone after an error; then there is nothing left to do.
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if done.send(read(run).map(|bytes| (*run, bytes))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        results.into_iter().try_for_each(|result| result.map(|(run, bytes)| use_run(run, &bytes)))
    })
}
