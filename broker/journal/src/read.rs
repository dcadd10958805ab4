//! Reading records back: from memory, from the journal, from segments.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_core::store::{Records, StoreError};
use weir_message::Batch;

use crate::files::File;
use crate::format::{self, Block, Entry, EntryKind, Identity};
use crate::limits;
use crate::log::{Body, Log, Place};
use crate::segment;
use crate::shared::Shared;
use crate::writer;

/// Adds to `into` what lies from `from` on in `log`, until `bytes_max` is reached or
/// the stable end; at least one record when there is one.
///
/// # Errors
/// [`StoreError::Damaged`] when the first record wanted is lost.
pub(crate) fn records(
    shared: &Shared,
    log: &Log,
    from: u64,
    bytes_max: usize,
    into: &mut Vec<Records>,
) -> Result<(), StoreError> {
    let first = into.len();
    let mut left = bytes_max;
    let mut at = from.max(log.start);
    while at < log.stable {
        if let Some(end) = log.released.end_of(at) {
            at = end;
            continue;
        }
        if let Some(end) = log.damage.end_of(at) {
            return damaged(at, end, into.len() == first);
        }
        // Up to here nothing is lost or not stable yet, nor released: but for segments,
        // where neighbours are read at once and what is released is left out after that.
        let is_filed = at < log.filed_end();
        let stops = [log.released.next(at).filter(|_| !is_filed), log.damage.next(at)];
        let stops = stops.into_iter().flatten().map(|stretch| stretch.start);
        let stop = stops.fold(log.stable, u64::min);
        let known = into.len();
        let piece = Piece { from: at, to: stop, bytes_max: left, or_one: into.len() == first };
        let next = if is_filed {
            filed(shared, log, &piece, into)
        } else {
            unfiled(shared, log, &piece, into)
        };
        let before = at;
        match next {
            Ok(next) => at = next,
            Err(to) => return damaged(at, to.max(at + 1), into.len() == first),
        }
        let added: usize = into[known..].iter().map(|records| records.batch.bytes.len()).sum();
        left = left.saturating_sub(added);
        // What is there has no room any more.
        let full = at == before;
        if full || left == 0 && into.len() > first {
            return Ok(());
        }
    }
    Ok(())
}

fn damaged(from: u64, to: u64, is_first: bool) -> Result<(), StoreError> {
    if is_first { Err(StoreError::Damaged { from, to }) } else { Ok(()) }
}

/// What to read: records `from..to`, all of which are wanted (but for released ones in
/// segments).
struct Piece {
    from: u64,
    to: u64,
    bytes_max: usize,
    /// One record comes even when it is larger.
    or_one: bool,
}

/// Reads from segments. Returns where to go on; as an error, the end of what is
/// damaged.
fn filed(shared: &Shared, log: &Log, piece: &Piece, into: &mut Vec<Records>) -> Result<u64, u64> {
    let Some(segment) = log.segments.iter().find(|segment| segment.end > piece.from) else {
        return Ok(log.filed_end());
    };
    let at = segment.blocks.partition_point(|block| block.end <= piece.from);
    let Some(block) = segment.blocks.get(at) else { return Ok(segment.end) };
    if block.base >= piece.to {
        return Ok(piece.to);
    }
    let known = into.len();
    let to = piece.to.min(block.end);
    let source = segment::Source {
        files: &*shared.files,
        handles: &shared.handles,
        store_id: shared.store_id,
        log: log.number,
    };
    let from = piece.from.max(block.base);
    let read = segment::read_records(
        &source,
        segment,
        block,
        from..to,
        piece.bytes_max,
        piece.or_one,
        into,
    );
    if let Err(damage) = read {
        // What is damaged may be released: then it is nobody's loss.
        let next = log.released.next(from).map(|stretch| stretch.start);
        return match next.filter(|&start| start < to) {
            Some(start) => {
                into.truncate(known);
                filed(shared, log, &Piece { to: start, ..*piece }, into)
            }
            // What lies behind it in the block may be whole.
            None => Err(damage.to),
        };
    }
    let last = into[known..].last().map(|last| last.offset + last.batch.len() as u64);
    leave_out_released(log, known, into);
    match last {
        Some(next) => Ok(next),
        // Offsets have gaps: nothing was there.
        None if piece.or_one => Ok(to),
        None => Ok(from),
    }
}

/// Takes what is released out of the records from `known` on.
fn leave_out_released(log: &Log, known: usize, into: &mut Vec<Records>) {
    let end = |records: &Records| records.offset + records.batch.len() as u64;
    let is_touched = |records: &Records| {
        let next = log.released.next(records.offset);
        next.is_some_and(|stretch| stretch.start < end(records))
    };
    if !into[known..].iter().any(is_touched) {
        return;
    }
    for records in into.split_off(known) {
        for (from, to) in log.released.gaps(records.offset, end(&records)) {
            let (first, last) = (from - records.offset, to - records.offset);
            let batch = slice(&records.batch, first as usize, last as usize);
            into.push(Records { offset: from, batch, ..records });
        }
    }
}

/// Reads from a chunk. As [`filed`].
fn unfiled(shared: &Shared, log: &Log, piece: &Piece, into: &mut Vec<Records>) -> Result<u64, u64> {
    let Some(chunk) = log.chunks.get(log.chunk_at(piece.from)) else { return Ok(piece.to) };
    let from = piece.from.max(chunk.base);
    let to = piece.to.min(chunk.end());
    if from >= to {
        return Ok(piece.to.max(piece.from + 1));
    }
    let (time_ms, due_ms) = (chunk.stamp.time_ms, chunk.stamp.due_ms);
    match &chunk.body {
        Body::Gone => Ok(to),
        Body::Memory(batch, _) => {
            let rows = (from - chunk.base) as usize..(to - chunk.base) as usize;
            let taken = rows_within(batch, rows.start, rows.end, piece.bytes_max, piece.or_one);
            if taken > rows.start {
                let batch = slice(batch, rows.start, taken);
                into.push(Records { offset: from, time_ms, due_ms, batch });
            }
            Ok(chunk.base + taken as u64)
        }
        Body::Journal(place) => in_journal(shared, log.number, *place, from..to, piece, into),
    }
}

/// Reads entries of one block of the journal. Returns where to go on; as an error, the end
/// of what is damaged.
fn in_journal(
    shared: &Shared,
    log: u64,
    place: Place,
    wanted: std::ops::Range<u64>,
    piece: &Piece,
    into: &mut Vec<Records>,
) -> Result<u64, u64> {
    let block = block_at(shared, place).map_err(|()| wanted.end)?;
    let (mut at, mut left, mut or_one) = (wanted.start, piece.bytes_max, piece.or_one);
    for (number, entry) in block.entries.iter().enumerate().filter(|(_, entry)| {
        entry.kind == EntryKind::Append && entry.log == log && entry.a + entry.b > wanted.start
    }) {
        if entry.a >= wanted.end {
            break;
        }
        let Ok(batch) = body_of(shared, place, number, entry) else {
            // What was read before it is good, and what lies behind it may be.
            let end = wanted.end.min(entry.a + entry.b);
            return if at > wanted.start { Ok(at) } else { Err(end) };
        };
        at = at.max(entry.a);
        let first = (at - entry.a) as usize;
        let last = (wanted.end.min(entry.a + entry.b) - entry.a) as usize;
        let taken = rows_within(&batch, first, last, left, or_one);
        if taken > first {
            let batch = slice(&batch, first, taken);
            left = left.saturating_sub(batch.bytes.len());
            into.push(Records { offset: at, time_ms: entry.c, due_ms: entry.d, batch });
            or_one = false;
        }
        at = entry.a + taken as u64;
        if taken < last {
            return Ok(at);
        }
    }
    if at == wanted.start { Err(wanted.end) } else { Ok(at) }
}

/// What was read of one block of the journal.
struct Read {
    place: Place,
    block: Arc<Block>,
    /// By the entry's number.
    bodies: Vec<(usize, Batch)>,
}

/// Blocks of the journal that were read last: an entry may be many times larger
/// than what one reader wants of it at once. Shared by all stores.
#[derive(Default)]
pub(crate) struct RecentReads {
    reads: VecDeque<Read>,
}

impl RecentReads {
    fn find(&mut self, place: Place) -> Option<&mut Read> {
        self.reads.iter_mut().find(|read| read.place == place)
    }
}

/// The block at `place`, its header and table checked.
fn block_at(shared: &Shared, place: Place) -> Result<Arc<Block>, ()> {
    if let Some(read) = Shared::lock(&shared.recent_reads).find(place) {
        return Ok(read.block.clone());
    }
    let file = journal_file(shared, place)?;
    let identity =
        Identity { store_tag: writer::tag(shared.store_id), file_sequence: place.sequence };
    let found = format::read_head_at(&*file, u64::from(place.at), identity);
    let Ok(format::Found::Block(block)) = found else { return Err(()) };
    let block = Arc::new(block);
    let mut recent = Shared::lock(&shared.recent_reads);
    if recent.reads.len() == limits::RECENT_READS {
        recent.reads.pop_front();
    }
    recent.reads.push_back(Read { place, block: block.clone(), bodies: Vec::new() });
    Ok(block)
}

/// The messages of an entry of the block at `place`, checked.
fn body_of(shared: &Shared, place: Place, number: usize, entry: &Entry) -> Result<Batch, ()> {
    if let Some(read) = Shared::lock(&shared.recent_reads).find(place)
        && let Some((_, batch)) = read.bodies.iter().find(|(known, _)| *known == number)
    {
        return Ok(batch.clone());
    }
    let file = journal_file(shared, place)?;
    let body = format::read_body(&*file, u64::from(place.at), entry);
    let body = body.map_err(drop)?.map_err(drop)?;
    let batch = format::batch_of_body(entry, &body).map_err(drop)?;
    if let Some(read) = Shared::lock(&shared.recent_reads).find(place) {
        // What many logs share is read by many: only the last few are kept.
        if read.bodies.len() == limits::RECENT_BODIES {
            read.bodies.remove(0);
        }
        read.bodies.push((number, batch.clone()));
    }
    Ok(batch)
}

fn journal_file(shared: &Shared, place: Place) -> Result<Arc<dyn File>, ()> {
    let files = Shared::lock(&shared.journal_files);
    files.get(&place.sequence).map(|journal| journal.file.clone()).ok_or(())
}

/// The first offset appended at or after `time_ms`.
pub(crate) fn offset_at(shared: &Shared, log: &Log, time_ms: u64) -> u64 {
    let mut at = log.offset_at(time_ms);
    let mut records_read = Vec::new();
    while at < log.filed_end() {
        records_read.clear();
        if records(shared, log, at, limits::SEARCH_BYTES, &mut records_read).is_err() {
            return at;
        }
        let found = records_read.iter().find(|records| records.time_ms >= time_ms);
        if let Some(found) = found {
            return found.offset;
        }
        match records_read.last() {
            Some(last) => at = last.offset + last.batch.len() as u64,
            None => return at,
        }
    }
    at
}

/// One past the last row of `row..end` that fits `bytes_left`; one row more than
/// fits when `or_one` and none does.
pub(crate) fn rows_within(
    batch: &Batch,
    row: usize,
    end: usize,
    bytes_left: usize,
    or_one: bool,
) -> usize {
    let limit = batch.start(row).saturating_add(bytes_left);
    let fitting = batch.ends[row..end].partition_point(|&end| end as usize <= limit);
    row + if fitting == 0 && or_one && end > row { 1 } else { fitting }
}

/// Rows `row..end` of a batch.
pub(crate) fn slice(batch: &Batch, row: usize, end: usize) -> Batch {
    if row == 0 && end == batch.len() {
        return batch.clone();
    }
    let (first, last) = (batch.start(row), batch.start(end));
    let ends = batch.ends[row..end].iter().map(|end| end - first as u32).collect();
    Batch { bytes: batch.bytes.slice(first..last), ends }
}
