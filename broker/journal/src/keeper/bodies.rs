//! The records of chunks that are to be filed, from memory or from the journal.

use std::collections::HashMap;

use weir_core::command::Level;

use super::loaded::{Loaded, Pieces};
use super::{Collected, CollectedBody, CollectedChunk, Fault, Rest};
use crate::format::{
    Entry, EntryKind, Found, Identity, Kind, batch_of_body, read_body, read_head_at, store_tag,
};
use crate::limits::APPENDS_KEPT_MAX;

/// As many appends as a block's place among the tables takes of memory.
const BLOCK_APPENDS: usize = 4;

/// See the file's head.
pub(super) struct Bodies<'a> {
    rest: &'a dyn Rest,
    store_id: u128,
    /// By journal file and byte; the appends of a block by log and offset. Logs are filed
    /// one by one, but share blocks: what is not kept each of them reads again.
    tables: HashMap<(u64, u32), Box<[Append]>>,
    appends_kept: usize,
    loaded: Loaded,
}

/// What of an append's entry is needed to read its records: there may be very many.
struct Append {
    log: u64,
    base: u64,
    count: u32,
    body_at: u32,
    body_len: u32,
    body_crc: u32,
}

impl Append {
    fn of(entry: &Entry) -> Option<Self> {
        let count = u32::try_from(entry.b).ok().filter(|_| entry.kind == EntryKind::Append)?;
        let [body_at, body_len] = [entry.body.start, entry.body.len()].map(|it| it as u32);
        let (log, base, body_crc) = (entry.log, entry.a, entry.body_crc);
        Some(Self { log, base, count, body_at, body_len, body_crc })
    }

    fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }

    fn entry(&self) -> Entry {
        let body = self.body_at as usize..(self.body_at + self.body_len) as usize;
        Entry {
            kind: EntryKind::Append,
            level: Level::Disk,
            log: self.log,
            a: self.base,
            b: u64::from(self.count),
            c: 0,
            d: 0,
            body,
            body_crc: self.body_crc,
        }
    }
}

impl<'a> Bodies<'a> {
    pub(super) fn new(rest: &'a dyn Rest, store_id: u128) -> Self {
        let (tables, loaded) = (HashMap::new(), Loaded::default());
        Self { rest, store_id, tables, appends_kept: 0, loaded }
    }

    /// Reads ahead for the first of `logs`, which are to be asked for in this order. For
    /// how many.
    pub(super) fn load(&mut self, logs: &[&Collected]) -> usize {
        self.loaded.load(self.rest, store_tag(self.store_id, Kind::Journal), logs)
    }

    /// All records of `chunk`, in pieces with their first offsets.
    ///
    /// # Errors
    /// The journal does not hold what was written to it: the next start tells what
    /// is lost.
    pub(super) fn of(&mut self, log: u64, chunk: &CollectedChunk) -> Result<Pieces, Fault> {
        match &chunk.body {
            CollectedBody::Memory(batch) => {
                assert!(batch.len() == chunk.count as usize, "a chunk is in memory as a whole");
                Ok(Pieces::from_iter([(chunk.base, batch.clone())]))
            }
            CollectedBody::Journal { sequence, at } => {
                if let Some(pieces) = self.loaded.take(log, chunk.base)
                    && are_all_of(chunk, &pieces)
                {
                    return Ok(pieces);
                }
                self.read(log, chunk, *sequence, *at).map_err(|what| {
                    let (from, to) = (chunk.base, chunk.base + u64::from(chunk.count));
                    Fault(format!(
                        "journal file {sequence:016x}, block at byte {at}: {what}; log {log} \
                         offsets {from}..{to}"
                    ))
                })
            }
        }
    }

    fn read(
        &mut self,
        log: u64,
        chunk: &CollectedChunk,
        sequence: u64,
        at: u32,
    ) -> Result<Pieces, String> {
        let file = self.rest.journal_file(sequence).ok_or("the file is not there")?;
        if !self.tables.contains_key(&(sequence, at)) {
            let identity = Identity {
                store_tag: store_tag(self.store_id, Kind::Journal),
                file_sequence: sequence,
            };
            let found = read_head_at(&*file, u64::from(at), identity);
            let Found::Block(block) = found.map_err(|error| error.to_string())? else {
                return Err("the block is not as written".to_owned());
            };
            let appends = block.entries.iter().filter_map(Append::of);
            let mut appends = appends.collect::<Vec<_>>().into_boxed_slice();
            appends.sort_by_key(|one| (one.log, one.base));
            let taken = appends.len() + BLOCK_APPENDS;
            if self.appends_kept + taken > APPENDS_KEPT_MAX {
                self.tables.clear();
                self.appends_kept = 0;
            }
            self.appends_kept += taken;
            self.tables.insert((sequence, at), appends);
        }
        let (mut offset, end) = (chunk.base, chunk.base + u64::from(chunk.count));
        let appends = &self.tables[&(sequence, at)];
        let first = appends.partition_point(|one| (one.log, one.end()) <= (log, offset));
        let mut pieces = Pieces::new();
        for append in &appends[first..] {
            if offset >= end || append.log != log || append.base > offset {
                break;
            }
            let entry = append.entry();
            let body = read_body(&*file, u64::from(at), &entry)
                .map_err(|error| error.to_string())?
                .map_err(|unsound| unsound.to_string())?;
            let batch = batch_of_body(&entry, &body).map_err(|unsound| unsound.to_string())?;
            pieces.push((append.base, batch));
            offset = append.end();
        }
        if offset < end {
            return Err(format!("offset {offset} is not in it"));
        }
        Ok(pieces)
    }
}

/// Whether the pieces, one behind the other, hold all records of the chunk.
fn are_all_of(chunk: &CollectedChunk, pieces: &Pieces) -> bool {
    let mut offset = chunk.base;
    for (base, batch) in pieces {
        let end = base + batch.len() as u64;
        if *base > offset || end <= offset {
            return false;
        }
        offset = end;
    }
    offset >= chunk.base + u64::from(chunk.count)
}
