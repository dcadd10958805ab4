//! The records of chunks that are to be filed, from memory or from the journal.

use std::collections::HashMap;

use weir_message::Batch;

use super::{CollectedBody, CollectedChunk, Fault, Rest};
use crate::format::{
    Block, EntryKind, Found, Identity, Kind, batch_of_body, read_body, read_head_at, store_tag,
};

/// Entries of tables kept for the next chunk. Logs are filed one by one, but share
/// blocks.
const ENTRIES_KEPT_MAX: usize = 128 << 10;

/// See the file's head.
pub(super) struct Bodies<'a> {
    rest: &'a dyn Rest,
    store_id: u128,
    /// By journal file and byte.
    tables: HashMap<(u64, u32), Block>,
    entries_kept: usize,
}

impl<'a> Bodies<'a> {
    pub(super) fn new(rest: &'a dyn Rest, store_id: u128) -> Self {
        Self { rest, store_id, tables: HashMap::new(), entries_kept: 0 }
    }

    /// All records of `chunk`, in pieces with their first offsets.
    ///
    /// # Errors
    /// The journal does not hold what was written to it: the next start tells what
    /// is lost.
    pub(super) fn of(
        &mut self,
        log: u64,
        chunk: &CollectedChunk,
    ) -> Result<Vec<(u64, Batch)>, Fault> {
        match &chunk.body {
            CollectedBody::Memory(batch) => {
                assert!(batch.len() == chunk.count as usize, "a chunk is in memory as a whole");
                Ok(vec![(chunk.base, batch.clone())])
            }
            CollectedBody::Journal { sequence, at } => {
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
    ) -> Result<Vec<(u64, Batch)>, String> {
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
            if self.entries_kept > ENTRIES_KEPT_MAX {
                self.tables.clear();
                self.entries_kept = 0;
            }
            self.entries_kept += block.entries.len();
            self.tables.insert((sequence, at), block);
        }
        let (mut offset, end) = (chunk.base, chunk.base + u64::from(chunk.count));
        let mut pieces = Vec::new();
        for entry in &self.tables[&(sequence, at)].entries {
            let is_next = entry.kind == EntryKind::Append
                && entry.log == log
                && (entry.a..entry.a + entry.b).contains(&offset);
            if is_next && offset < end {
                let body = read_body(&*file, u64::from(at), entry)
                    .map_err(|error| error.to_string())?
                    .map_err(|unsound| unsound.to_string())?;
                let batch = batch_of_body(entry, &body).map_err(|unsound| unsound.to_string())?;
                pieces.push((entry.a, batch));
                offset = entry.a + entry.b;
            }
        }
        if offset < end {
            return Err(format!("offset {offset} is not in it"));
        }
        Ok(pieces)
    }
}
