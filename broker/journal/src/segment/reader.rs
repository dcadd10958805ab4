//! Reading records out of a segment's block. What is handed out has been checked.

use std::io;
use std::ops::Range;
use std::sync::Mutex;

use weir_core::command::Level;
use weir_core::store::{Records, Stamp};
use weir_message::Batch;

use super::{BlockIndex, Handles, Segment, SegmentDamage, identity, path};
use crate::files::{File, Files};
use crate::format::{Entry, Found, Identity, load, read_block, read_head_at};
use crate::read::{rows_within, slice};

/// Where a log's segments are read from.
pub(crate) struct Source<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) handles: &'a Mutex<Handles>,
    pub(crate) store_id: u128,
    pub(crate) log: u64,
}

/// Adds to `into` the records of `block` whose offsets are in `wanted`, until an entry
/// does not fit into `bytes_max`; if `at_least_one`, of the first what fits, and one
/// record even when it is larger.
/// Offsets that are in no entry are passed over.
///
/// # Errors
/// What was to be read next is damaged; what was added before that is good.
pub(crate) fn read_records(
    source: &Source<'_>,
    segment: &Segment,
    block: &BlockIndex,
    wanted: Range<u64>,
    bytes_max: usize,
    at_least_one: bool,
    into: &mut Vec<Records>,
) -> Result<(), SegmentDamage> {
    let damage = |offsets: Range<u64>, what: String| {
        let at = u64::from(block.at);
        SegmentDamage {
            log: source.log,
            from: offsets.start,
            to: offsets.end,
            path: path(source.log, segment.base, segment.revision),
            bytes: at..at + u64::from(block.len),
            what,
            costs_nothing: false,
        }
    };
    let (file, entries) = open(source, segment, block, &wanted)
        .map_err(|what| damage(block.base..block.end, what))?;
    let (mut left, mut or_one) = (bytes_max, at_least_one);
    let mut rest = entries.as_slice();
    while let Some(first) = rest.first() {
        // One read takes the entries that fit, and the first one in any case. What does
        // not is not read: it would be checked as a whole for a few of its records.
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.body.len() - 4 * entry.b as usize;
            bytes <= left
        };
        let count = rest.iter().take_while(fits).count();
        if count == 0 && !or_one {
            return Ok(());
        }
        let (mut now, mut later) = rest.split_at(count.max(1));
        let span_of = |now: &[Entry]| first.body.start..now[now.len() - 1].body.end;
        let bodies =
            |span: &Range<usize>| load(&*file, u64::from(block.at) + span.start as u64, span.len());
        let mut span = span_of(now);
        let mut bytes = bodies(&span);
        if bytes.is_err() && now.len() > 1 {
            // Which of them it is nobody knows: one by one.
            (now, later) = rest.split_at(1);
            span = span_of(now);
            bytes = bodies(&span);
        }
        let bytes = bytes.map_err(|error| damage(first.a..first.a + first.b, error.to_string()))?;
        for entry in now {
            let mut entry = entry.clone();
            entry.body = entry.body.start - span.start..entry.body.end - span.start;
            let batch = entry
                .append_batch(&bytes)
                .map_err(|unsound| damage(entry.a..entry.a + entry.b, unsound.to_string()))?;
            let offset = wanted.start.max(entry.a);
            let row = (offset - entry.a) as usize;
            let end = (wanted.end.min(entry.a + entry.b) - entry.a) as usize;
            let taken = rows_within(&batch, row, end, left, or_one);
            if taken > row {
                let batch = slice(&batch, row, taken);
                left = left.saturating_sub(batch.bytes.len());
                or_one = false;
                into.push(Records { offset, time_ms: entry.c, due_ms: entry.d, batch });
            }
            if taken < end || left == 0 {
                return Ok(());
            }
        }
        rest = later;
    }
    Ok(())
}

/// Neighbouring records as they were filed.
pub(crate) struct Piece {
    /// Offset of the first.
    pub(crate) base: u64,
    pub(crate) level: Level,
    pub(crate) stamp: Stamp,
    pub(crate) batch: Batch,
}

/// All records of `block`, with all that was filed with them.
///
/// # Errors
/// The block is not as written, or not the one that the index knows.
pub(crate) fn read_pieces(
    file: &dyn File,
    identity: Identity,
    log: u64,
    block: &BlockIndex,
) -> Result<Vec<Piece>, String> {
    let at = u64::from(block.at);
    let bytes = load(file, at, block.len as usize).map_err(|error| error.to_string())?;
    let Found::Block(found) = read_block(&bytes, 0, identity) else {
        return Err("the block is not as written".to_owned());
    };
    if BlockIndex::of(log, &found, at).as_ref() != Some(block) {
        return Err("the block is not the one that the index knows".to_owned());
    }
    let piece = |entry: &Entry| {
        let batch = entry.append_batch(&bytes).map_err(|unsound| unsound.to_string())?;
        let stamp = Stamp { time_ms: entry.c, due_ms: entry.d };
        Ok(Piece { base: entry.a, level: entry.level, stamp, batch })
    };
    found.entries.iter().map(piece).collect()
}

/// The segment's file, and the entries of `block` that hold some of `wanted`.
fn open(
    source: &Source<'_>,
    segment: &Segment,
    block: &BlockIndex,
    wanted: &Range<u64>,
) -> Result<(std::sync::Arc<dyn File>, Vec<Entry>), String> {
    let read = || -> io::Result<_> {
        let mut handles = source.handles.lock().expect("no panic under this lock");
        let file = handles.get(source.files, source.log, segment.base, segment.revision)?;
        drop(handles);
        let identity = identity(source.store_id, segment.base, segment.revision);
        let found = read_head_at(&*file, u64::from(block.at), identity)?;
        Ok((file, found))
    };
    let (file, found) = read().map_err(|error| error.to_string())?;
    let Found::Block(found) = found else { return Err("the block is not as written".to_owned()) };
    if BlockIndex::of(source.log, &found, u64::from(block.at)).as_ref() != Some(block) {
        return Err("the block is not the one that the index knows".to_owned());
    }
    let mut entries = found.entries;
    entries.retain(|entry| entry.a < wanted.end && entry.a + entry.b > wanted.start);
    Ok((file, entries))
}
