//! Filing: from what the stores have collected to segments that are synced.
//!
//! All or nothing: when it ends early, what was written is taken back. (If even
//! that fails no harm is done: nobody trusts those bytes, and the next one to write
//! there cuts them.) Many logs are written before the first is synced: the disk
//! then works on all of them at once.

use std::io;

use weir_core::store::Stamp;
use weir_message::Batch;

use super::bodies::Bodies;
use super::{Collected, CollectedChunk, Fault, FiledLog, KeeperEvent, Rest};
use crate::files::Files;
use crate::limits::UNSYNCED_SEGMENTS_MAX;
use crate::read::{rows_within, slice};
use crate::segment::{self, OpenError, Segment, SegmentWriter, Sizes};

/// Why nothing was filed.
#[derive(Debug)]
pub(super) enum Unfiled {
    /// No space: it may be tried again.
    NoSpace(String),
    Fault(Fault),
}

impl From<io::Error> for Unfiled {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace(error.to_string())
            }
            _ => Self::Fault(Fault(format!("filing: {error}"))),
        }
    }
}

impl From<Fault> for Unfiled {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// See the file's head.
pub(super) struct Filing<'a> {
    files: &'a dyn Files,
    rest: &'a dyn Rest,
    store_id: u128,
    sizes: Sizes,
    created_ms: u64,
    bodies: Bodies<'a>,
    /// What is written and not synced.
    unsynced: Vec<Segments>,
    /// What is, since that was asked.
    filed: Vec<FiledLog>,
    /// Segments touched: log, base, and the length before, if there was one.
    touched: Vec<(u64, u64, Option<u64>)>,
    /// Records filed.
    pub(super) records: u64,
    /// Bytes of messages filed.
    pub(super) bytes: u64,
}

impl<'a> Filing<'a> {
    pub(super) fn new(
        files: &'a dyn Files,
        rest: &'a dyn Rest,
        store_id: u128,
        sizes: Sizes,
        created_ms: u64,
    ) -> Self {
        let bodies = Bodies::new(rest, store_id);
        Self {
            files,
            rest,
            store_id,
            sizes,
            created_ms,
            bodies,
            unsynced: Vec::new(),
            filed: Vec::new(),
            touched: Vec::new(),
            records: 0,
            bytes: 0,
        }
    }

    /// Takes back what was written.
    pub(super) fn undo(self) {
        for (log, base, len_before) in self.touched {
            // See the file's head.
            let _ = segment::undo(self.files, log, base, len_before);
        }
    }

    /// Files what was collected of some logs; `sync` must follow.
    ///
    /// # Errors
    /// [`Unfiled`]; then all of this filing must be taken back.
    pub(super) fn file(&mut self, mut logs: &[&Collected]) -> Result<(), Unfiled> {
        while !logs.is_empty() {
            let (loaded, rest) = logs.split_at(self.bodies.load(logs));
            loaded.iter().try_for_each(|log| self.file_log(log))?;
            logs = rest;
        }
        Ok(())
    }

    fn file_log(&mut self, collected: &Collected) -> Result<(), Unfiled> {
        let mut segments = Segments {
            log: collected.log,
            active: collected.active.clone(),
            writer: None,
            done: Vec::new(),
            has_new: false,
            through: 0,
        };
        for chunk in &collected.chunks {
            segments.through = chunk.base + u64::from(chunk.count);
            let live = live_of(chunk);
            if live.is_empty() {
                continue;
            }
            for (base, batch) in self.bodies.of(collected.log, chunk)? {
                let end = base + batch.len() as u64;
                for &(from, to) in &live {
                    let (from, to) = (from.max(base), to.min(end));
                    if from < to {
                        let rows = ((from - base) as usize, (to - base) as usize);
                        self.push(&mut segments, chunk, base, &batch, rows)?;
                    }
                }
            }
        }
        if let Some(writer) = &mut segments.writer {
            writer.start_sync()?;
        }
        self.unsynced.push(segments);
        if self.unsynced.len() >= UNSYNCED_SEGMENTS_MAX {
            self.sync_written()?;
        }
        Ok(())
    }

    /// Syncs what was filed. Returns it, in order, as far as it was not returned yet.
    ///
    /// # Errors
    /// [`Unfiled`]; then all of this filing must be taken back.
    pub(super) fn sync(&mut self) -> Result<Vec<FiledLog>, Unfiled> {
        self.sync_written()?;
        Ok(std::mem::take(&mut self.filed))
    }

    fn sync_written(&mut self) -> Result<(), Unfiled> {
        for mut segments in self.unsynced.drain(..) {
            if let Some(mut writer) = segments.writer.take() {
                segments.done.push(writer.finish(self.files)?);
            }
            let Segments { log, done, through, .. } = segments;
            if segments.has_new {
                self.files.sync_folder(&segment::folder(log))?;
            }
            self.filed.push(FiledLog { log, segments: done, through });
        }
        Ok(())
    }

    /// Adds rows of `batch`, whose first record is at `base`, in entries that readers
    /// can take one by one.
    fn push(
        &mut self,
        segments: &mut Segments,
        chunk: &CollectedChunk,
        base: u64,
        batch: &Batch,
        (mut row, end): (usize, usize),
    ) -> Result<(), Unfiled> {
        let stamp = Stamp { time_ms: chunk.time_ms, due_ms: chunk.due_ms };
        while row < end {
            let next = rows_within(batch, row, end, self.sizes.entry_bytes(), true);
            let piece = slice(batch, row, next);
            let offset = base + row as u64;
            let writer = self.writer(segments, offset, piece.bytes.len() + 4 * piece.len())?;
            writer.push(chunk.level, offset, stamp, &piece)?;
            self.records += piece.len() as u64;
            self.bytes += piece.bytes.len() as u64;
            row = next;
        }
        Ok(())
    }

    /// The segment that takes `bytes` more, of which the first record is at `base`.
    fn writer<'s>(
        &mut self,
        segments: &'s mut Segments,
        base: u64,
        bytes: usize,
    ) -> Result<&'s mut SegmentWriter, Unfiled> {
        if let Some(active) = segments.active.take() {
            self.touched.push((segments.log, active.base, Some(active.len)));
            let (files, log) = (self.files, segments.log);
            match SegmentWriter::open(files, self.store_id, log, active, self.sizes) {
                Ok(writer) => segments.writer = Some(writer),
                Err(OpenError::Io(error)) => return Err(error.into()),
                Err(OpenError::Damage(damage)) => {
                    // It stays as it is; what comes goes into another one.
                    self.touched.pop();
                    self.rest.report(KeeperEvent::Damage(damage));
                }
            }
        }
        if let Some(writer) = segments.writer.as_mut().filter(|writer| writer.is_full_for(bytes)) {
            writer.seal()?;
            segments.done.push(writer.finish(self.files)?);
            segments.writer = None;
        }
        if segments.writer.is_none() {
            self.touched.push((segments.log, base, None));
            let (files, log) = (self.files, segments.log);
            segments.has_new = true;
            segments.writer = Some(SegmentWriter::create(
                files,
                self.store_id,
                log,
                (base, 0),
                self.created_ms,
                self.sizes,
            )?);
        }
        Ok(segments.writer.as_mut().expect("it was just made"))
    }
}

/// The segments of the log that is being filed.
struct Segments {
    log: u64,
    /// To go on with, when something comes.
    active: Option<Segment>,
    writer: Option<SegmentWriter>,
    done: Vec<Segment>,
    /// Whether files were made.
    has_new: bool,
    /// One past the last offset that is filed.
    through: u64,
}

/// The stretches of a chunk that are not released.
fn live_of(chunk: &CollectedChunk) -> Vec<(u64, u64)> {
    let end = chunk.base + u64::from(chunk.count);
    let mut live = Vec::new();
    let mut from = chunk.base;
    for &(released, to) in &chunk.released {
        if released > from {
            live.push((from, released.min(end)));
        }
        from = from.max(to);
    }
    if from < end {
        live.push((from, end));
    }
    live
}
