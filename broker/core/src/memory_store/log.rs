//! One log of the memory store: chunks in offset order, each one append.

use std::collections::VecDeque;
use std::ops::Range;

use weir_message::Batch;

use super::cursor::Cursor;
use crate::store::{Bounds, Records, Stamp, StoreError};

/// Emptied chunks that may lie between live ones before they are swept out.
const EMPTY_CHUNKS_MIN: usize = 64;

/// What one append brought, less what was released.
#[derive(Debug)]
struct Chunk {
    /// Offset of the first record.
    offset: u64,
    /// Number of records appended, released or not.
    count: u32,
    /// Records not released yet; 0 means the batch was freed.
    live: u32,
    stamp: Stamp,
    /// Latest time of this and every earlier append: the wall clock may jump
    /// back, and a search by time needs an order.
    time_max_ms: u64,
    batch: Batch,
    /// Bit per record, set when released; empty while none is.
    released: Vec<u64>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.offset + u64::from(self.count)
    }

    fn is_released(&self, row: usize) -> bool {
        self.released.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Rows from `row` on that are released, or not, as row says: one past the
    /// last of the run, at most `end`.
    fn run_end(&self, row: usize, end: usize) -> usize {
        if self.released.is_empty() {
            return end;
        }
        let state = self.is_released(row);
        (row + 1..end).find(|&next| self.is_released(next) != state).unwrap_or(end)
    }
}

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    name: String,
    chunks: VecDeque<Chunk>,
    bounds: Bounds,
    bytes_held: u64,
    /// Chunks in `chunks` that were freed.
    empty: usize,
    /// It is a cursor log: no records, only what is settled of another log.
    cursor: Option<Cursor>,
    lost: Option<Range<u64>>,
}

impl Log {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            chunks: VecDeque::new(),
            bounds: Bounds::default(),
            bytes_held: 0,
            empty: 0,
            cursor: None,
            lost: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Bytes of every chunk not freed yet.
    pub(super) fn bytes_held(&self) -> u64 {
        self.bytes_held
    }

    pub(super) fn is_stable(&self) -> bool {
        self.bounds.stable == self.bounds.end
    }

    /// Everything appended so far is stable.
    pub(super) fn settle(&mut self) {
        self.bounds.stable = self.bounds.end;
    }

    /// Takes a batch that is not empty.
    pub(super) fn append(&mut self, stamp: Stamp, batch: Batch) {
        let count = u32::try_from(batch.len()).expect("a batch has fewer than 2^32 messages");
        let before_ms = self.chunks.back().map_or(0, |chunk| chunk.time_max_ms);
        let time_max_ms = before_ms.max(stamp.time_ms);
        let added = batch.bytes.len() as u64;
        self.chunks.push_back(Chunk {
            offset: self.bounds.end,
            count,
            live: count,
            stamp,
            time_max_ms,
            batch,
            released: Vec::new(),
        });
        self.bounds.end += u64::from(count);
        self.bounds.bytes += added;
        self.bytes_held += added;
    }

    pub(super) fn read(
        &self,
        from: u64,
        bytes_max: usize,
        into: &mut Vec<Records>,
    ) -> Result<(), StoreError> {
        let Some(lost) = self.lost.clone() else {
            self.read_until(from, self.bounds.stable, bytes_max, into);
            return Ok(());
        };
        let before = into.len();
        if from < lost.start {
            self.read_until(from, lost.start.min(self.bounds.stable), bytes_max, into);
        } else if from >= lost.end {
            self.read_until(from, self.bounds.stable, bytes_max, into);
        }
        let is_reached = into.len() == before && from < lost.end && lost.start < self.bounds.stable;
        if is_reached {
            return Err(StoreError::Damaged { from: lost.start, to: lost.end });
        }
        Ok(())
    }

    /// Reads what lies below `stable`.
    fn read_until(&self, from: u64, stable: u64, bytes_max: usize, into: &mut Vec<Records>) {
        let mut from = from.max(self.bounds.start);
        let mut bytes_left = bytes_max;
        let mut is_first = true;
        for chunk in self.chunks.range(self.chunk_at(from)..) {
            let stop = chunk.end().min(stable);
            if from >= stop && chunk.offset >= stable {
                return;
            }
            from = from.max(chunk.offset);
            while chunk.live > 0 && from < stop {
                let row = (from - chunk.offset) as usize;
                let end = chunk.run_end(row, (stop - chunk.offset) as usize);
                if !chunk.is_released(row) {
                    let taken = rows_within(&chunk.batch, row, end, bytes_left, is_first);
                    if taken > row {
                        let records = slice(chunk, row, taken);
                        bytes_left = bytes_left.saturating_sub(records.batch.bytes.len());
                        into.push(records);
                        is_first = false;
                    }
                    if taken < end {
                        return;
                    }
                }
                from = chunk.offset + end as u64;
            }
        }
    }

    pub(super) fn offset_at(&self, time_ms: u64) -> u64 {
        let at = self.chunks.partition_point(|chunk| chunk.time_max_ms < time_ms);
        self.chunks.get(at).map_or(self.bounds.end, |chunk| chunk.offset.max(self.bounds.start))
    }

    /// Drops what lies below `to`. Returns the bytes freed.
    pub(super) fn trim(&mut self, to: u64) -> u64 {
        if let Some(cursor) = &mut self.cursor {
            cursor.raise(to);
            self.bounds_follow();
            return 0;
        }
        let to = to.min(self.bounds.end);
        if to <= self.bounds.start {
            return 0;
        }
        let freed = self.release(self.bounds.start, to);
        self.bounds.start = to;
        freed
    }

    /// Makes it a cursor log: everything below `to` is settled, nothing above.
    pub(super) fn reset(&mut self, to: u64) {
        self.cursor = Some(Cursor::new(to));
        self.bounds_follow();
    }

    /// A cursor log is as long as what is settled from its start on.
    fn bounds_follow(&mut self) {
        let floor = self.cursor.as_ref().map_or(0, Cursor::floor);
        self.bounds = Bounds { start: floor, end: floor, stable: floor, bytes: 0 };
    }

    /// The first settled stretch that ends behind `from`.
    pub(super) fn settled(&self, from: u64) -> Option<Range<u64>> {
        if let Some(cursor) = &self.cursor {
            return cursor.settled(from);
        }
        let (start, end) = (self.bounds.start, self.bounds.end);
        if from < start {
            return Some(0..start);
        }
        // What no chunk holds any more is settled, and so are released rows.
        let first = self.chunk_at(from);
        let mut at = first.checked_sub(1).map_or(start, |before| self.chunks[before].end());
        let mut found: Option<Range<u64>> = None;
        let settle = |found: &mut Option<Range<u64>>, stretch: Range<u64>| match found {
            None if stretch.end > from => *found = Some(stretch),
            Some(found) if found.end == stretch.start => found.end = stretch.end,
            _ => {}
        };
        for chunk in self.chunks.range(first..) {
            if chunk.offset > at {
                settle(&mut found, at..chunk.offset);
            }
            let mut row = at.saturating_sub(chunk.offset) as usize;
            while row < chunk.count as usize {
                let run_end = chunk.run_end(row, chunk.count as usize);
                if chunk.live == 0 || chunk.is_released(row) {
                    let run = chunk.offset + row as u64..chunk.offset + run_end as u64;
                    settle(&mut found, run);
                } else if found.is_some() {
                    return found;
                }
                row = run_end;
            }
            at = chunk.end();
        }
        if end > at {
            settle(&mut found, at..end);
        }
        found
    }

    /// Loses `lost`, as a damaged disk would.
    pub(super) fn damage(&mut self, lost: Range<u64>) {
        self.lost = Some(lost);
    }

    /// What is lost and not settled.
    pub(super) fn damaged(&self) -> Option<Range<u64>> {
        self.lost.clone()
    }

    /// Marks `from..to` as never read again. Returns the bytes freed.
    pub(super) fn release(&mut self, from: u64, to: u64) -> u64 {
        if let Some(cursor) = &mut self.cursor {
            if from < to {
                cursor.release(from, to);
            }
            self.bounds_follow();
            return 0;
        }
        let (from, to) = (from.max(self.bounds.start), to.min(self.bounds.end));
        if from >= to {
            return 0;
        }
        let held = self.bytes_held;
        for at in self.chunk_at(from)..self.chunks.len() {
            let chunk = &mut self.chunks[at];
            if chunk.offset >= to {
                break;
            }
            if chunk.live == 0 {
                continue;
            }
            let first = from.saturating_sub(chunk.offset) as usize;
            let last = (to.min(chunk.end()) - chunk.offset) as usize;
            self.bounds.bytes -= release_rows(chunk, first, last);
            if chunk.live == 0 {
                self.bytes_held -= chunk.batch.bytes.len() as u64;
                chunk.batch = Batch::default();
                chunk.released = Vec::new();
                self.empty += 1;
            }
        }
        self.sweep();
        // What is settled from the start on is not there any more.
        let start = self.bounds.start;
        if from == start
            && let Some(settled) = self.settled(start).filter(|it| it.start <= start)
        {
            self.bounds.start = settled.end;
        }
        held - self.bytes_held
    }

    /// Index of the chunk that holds `offset`, or the first one after it.
    fn chunk_at(&self, offset: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.end() <= offset)
    }

    /// Takes out freed chunks: at the front always, in between when they are
    /// the larger part, so that the work stays constant per chunk.
    fn sweep(&mut self) {
        while self.chunks.front().is_some_and(|chunk| chunk.live == 0) {
            self.chunks.pop_front();
            self.empty -= 1;
        }
        if self.empty >= EMPTY_CHUNKS_MIN && self.empty * 2 > self.chunks.len() {
            self.chunks.retain(|chunk| chunk.live > 0);
            self.empty = 0;
        }
    }
}

/// Releases rows `first..last` of a chunk with live rows. Returns their bytes.
fn release_rows(chunk: &mut Chunk, first: usize, last: usize) -> u64 {
    if chunk.released.is_empty() {
        let bytes = chunk.batch.start(last) - chunk.batch.start(first);
        chunk.live -= (last - first) as u32;
        if chunk.live > 0 {
            chunk.released = vec![0; (chunk.count as usize).div_ceil(64)];
            (first..last).for_each(|row| chunk.released[row / 64] |= 1 << (row % 64));
        }
        return bytes as u64;
    }
    let mut bytes = 0;
    for row in first..last {
        if !chunk.is_released(row) {
            bytes += chunk.batch.message(row).len() as u64;
            chunk.released[row / 64] |= 1 << (row % 64);
            chunk.live -= 1;
        }
    }
    bytes
}

/// One past the last row of `row..end` that fits `bytes_left`; one row more
/// than fits when `at_least_one` and none does.
fn rows_within(
    batch: &Batch,
    row: usize,
    end: usize,
    bytes_left: usize,
    at_least_one: bool,
) -> usize {
    let limit = batch.start(row).saturating_add(bytes_left);
    let fitting = batch.ends[row..end].partition_point(|&end| end as usize <= limit);
    row + if fitting == 0 && at_least_one { 1 } else { fitting }
}

fn slice(chunk: &Chunk, row: usize, end: usize) -> Records {
    let batch = if row == 0 && end == chunk.count as usize {
        chunk.batch.clone()
    } else {
        let (first, last) = (chunk.batch.start(row), chunk.batch.start(end));
        let ends = chunk.batch.ends[row..end].iter().map(|end| end - first as u32).collect();
        Batch { bytes: chunk.batch.bytes.slice(first..last), ends }
    };
    let Stamp { time_ms, due_ms } = chunk.stamp;
    Records { offset: chunk.offset + row as u64, time_ms, due_ms, batch }
}
