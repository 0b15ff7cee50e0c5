//! Rows of a table, gathered from the file: an embedding is never in memory whole.

use std::ops::Range;

use sli_core::{HostTensor, Result, SliError};

use crate::layout::Layout;
use crate::load::load_slot;
use crate::memory::Memory;
use crate::slot::Slot;

/// Rows this close in the file are read together.
const SMALL_GAP: usize = 16 << 10;

/// The most bytes that are read at once.
const LARGEST_READ: usize = 4 << 20;

impl Layout {
    /// Rows of a table of this layout, in the order asked for: [rows.len(), width]. A row may be asked for several
    /// times; each is read once, and neighbours are read together, through the page cache.
    ///
    /// # Errors
    /// [`SliError::Usage`] for a row that the table does not have; when the file cannot be read.
    pub fn read_rows(&self, slot: &Slot, rows: &[u32]) -> Result<HostTensor> {
        let count = slot.need.shape[0];
        if let Some(row) = rows.iter().find(|row| **row as usize >= count) {
            let name = &slot.stored.name;
            return Err(SliError::Usage(format!("row {row} of tensor '{name}', which has {count} rows")));
        }
        let mut memory = Memory::unpooled();
        let shape = [&[rows.len()], &slot.need.shape[1..]].concat();
        let Some(starts) = slot.row_starts() else {
            return Ok(rows_of(&load_slot(slot, &mut self.checkpoint())?, rows, shape, &mut memory));
        };
        let dtype = slot.stored_dtype;
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let row_bytes = bytes / rows.len().max(1);
        let mut out = memory.buffer(bytes);
        let mut read = Vec::new();

        // Start in the file and row of the result, in file order.
        let mut wanted: Vec<_> = rows.iter().map(|row| starts[*row as usize]).zip(0..).collect();
        wanted.sort_unstable();
        let mut rest: &[(usize, usize)] = &wanted;
        while let Some((first, _)) = rest.first() {
            let (run, after) = rest.split_at(run_length(rest, row_bytes));
            rest = after;
            read.resize(run[run.len() - 1].0 - first + row_bytes, 0);
            self.checkpoint().files()[slot.stored.file]
                .read_at(&mut read, slot.range.start + *first as u64)?;
            for (start, row) in run {
                out[row * row_bytes..][..row_bytes].copy_from_slice(&read[start - first..][..row_bytes]);
            }
        }
        let rows = HostTensor::new(dtype, shape, out.into_bytes().slice(..bytes));
        Ok(slot.converted(rows, &mut memory))
    }

    /// Rows `rows` of a tensor of this layout: a tile of the vocabulary matrix, say.
    ///
    /// # Errors
    /// As [`Layout::read_rows`].
    pub fn load_row_range(&self, slot: &Slot, rows: Range<usize>) -> Result<HostTensor> {
        load_slot(&slot.rows(rows)?, &mut self.checkpoint())
    }
}

/// How many of the sorted rows, from the first on, are read together.
fn run_length(wanted: &[(usize, usize)], row_bytes: usize) -> usize {
    let first = wanted[0].0;
    let goes_on = |pair: &&[(usize, usize)]| {
        let gap = pair[1].0 - pair[0].0;
        gap <= row_bytes + SMALL_GAP && pair[1].0 - first <= LARGEST_READ
    };
    1 + wanted.windows(2).take_while(goes_on).count()
}

/// Rows of a table in memory, for tables whose rows do not lie in one piece in the file.
fn rows_of(table: &HostTensor, rows: &[u32], shape: Vec<usize>, memory: &mut Memory) -> HostTensor {
    let row_bytes = table.bytes().len() / table.shape()[0];
    let bytes = row_bytes * rows.len();
    let mut out = memory.buffer(bytes);
    for (out, row) in out.chunks_exact_mut(row_bytes).zip(rows) {
        out.copy_from_slice(&table.bytes()[*row as usize * row_bytes..][..row_bytes]);
    }
    HostTensor::new(table.dtype(), shape, out.into_bytes().slice(..bytes))
}
