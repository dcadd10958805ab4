//! A data folder without a broker: looked at, written out, read in. Nothing here
//! changes a folder but [`import`] and [`accept_loss`].

mod losses;
mod transfer;

use std::ops::Range;
use std::sync::Arc;

use weir_core::env::Clock;
use weir_core::store::{Records, StoreError};

use crate::catalogue::CatalogueState;
use crate::files::Files;
use crate::journal::JournalConfig;
use crate::log::Log;
use crate::recovery::{self, Mode, OpenError, Recovered, RecoveryReport};
use crate::shared::{Shared, Start};
use crate::{limits, read};
pub use losses::{accept_all_losses, accept_loss};
pub use transfer::import;

/// What a tool could not do.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Input or output failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The input is not what `export` writes.
    #[error("line {line}: {what}")]
    Input {
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// The input is not all of what `export` writes, or not the same.
    #[error("the input is not whole: {0}")]
    NotWhole(String),
    /// The folder to read into holds logs already.
    #[error("the folder holds logs already: import goes into an empty one")]
    NotEmpty,
    /// There is no such log, or nothing of it is lost there.
    #[error("{0}")]
    NotThere(String),
}

/// One log, in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFigures {
    /// Its name.
    pub name: String,
    /// First offset kept.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Records that are neither settled nor removed.
    pub live: u64,
    /// Bytes of them; an estimate where part of a block is settled.
    pub bytes: u64,
    /// Stretches settled ahead of the start.
    pub settled_stretches: usize,
    /// Segment files.
    pub segments: usize,
    /// Stretches that are lost.
    pub damage: Vec<(u64, u64)>,
}

/// What a folder holds.
#[derive(Clone, Debug)]
pub struct FolderFigures {
    /// What a start would find.
    pub report: RecoveryReport,
    /// The logs, by name.
    pub logs: Vec<LogFigures>,
    /// Keys of the catalogue.
    pub catalogue_keys: usize,
    /// Journal files a start would read.
    pub journal_files: usize,
}

/// Takes records, or a stretch that cannot be read: first offset, one past the last.
pub type RecordSink<'a> = dyn FnMut(Result<&Records, (u64, u64)>) + 'a;

/// A folder opened for looking.
pub struct Folder {
    shared: Arc<Shared>,
    report: RecoveryReport,
    journal_files: usize,
}

impl Folder {
    /// Opens the folder behind `files` and changes nothing in it. The broker must
    /// not run: the lock is the caller's to take, for as long as this lives.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(files: Arc<dyn Files>, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let found = recovery::recover(&files, &*clock, 0, Mode::ReadOnly)?;
        let journal_files = found.journal_files.len();
        let report = found.report.clone();
        let shared = Arc::new(shared_of(files, clock, found));
        Ok(Self { shared, report, journal_files })
    }

    /// What a start would find.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// What the folder holds.
    #[must_use]
    pub fn figures(&self) -> FolderFigures {
        let logs = Shared::lock(&self.shared.recovered);
        let mut figures: Vec<LogFigures> = logs.values().map(figures_of).collect();
        figures.sort_by(|one, other| one.name.cmp(&other.name));
        let catalogue = Shared::lock(&self.shared.catalogue);
        FolderFigures {
            report: self.report.clone(),
            logs: figures,
            catalogue_keys: catalogue.entries.len(),
            journal_files: self.journal_files,
        }
    }

    /// Reads every record of every log, each with its checks. Returns what cannot
    /// be read: log, first offset, one past the last.
    #[must_use]
    pub fn check(&self, progress: &mut dyn FnMut(&str, u64)) -> Vec<(String, u64, u64)> {
        let mut bad = Vec::new();
        for name in self.names() {
            let mut count = 0;
            self.records(&name, &mut |records| match records {
                Ok(records) => count += records.batch.len() as u64,
                Err((from, to)) => bad.push((name.clone(), from, to)),
            });
            progress(&name, count);
        }
        bad
    }

    /// Names of the logs.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            Shared::lock(&self.shared.recovered).keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    /// Hands out the live records of a log in order; as an error, a stretch that
    /// cannot be read.
    pub fn records(&self, name: &str, sink: &mut RecordSink<'_>) {
        let log = Shared::lock(&self.shared.recovered).get(name).cloned();
        if let Some(log) = log {
            read_within(&self.shared, &log, &(0..u64::MAX), sink);
        }
    }

    /// The catalogue's keys and values.
    #[must_use]
    pub fn catalogue(&self) -> Vec<(String, Vec<u8>)> {
        let catalogue = Shared::lock(&self.shared.catalogue);
        let entries = catalogue.entries.iter();
        entries.map(|(key, entry)| (key.clone(), entry.value.to_vec())).collect()
    }
}

fn shared_of(files: Arc<dyn Files>, clock: Arc<dyn Clock>, found: Recovered) -> Shared {
    let start = Start {
        store_id: found.store_id,
        synced_block: found.synced_block,
        journal_files: found.journal_files,
        spares: Vec::new(),
        recovered: found.logs,
        catalogue: found.catalogue,
        snapshots: found.snapshots,
        next_log: found.next_log,
    };
    Shared::new(files, clock, JournalConfig::new(found.store_id), start)
}

fn figures_of(log: &Log) -> LogFigures {
    let in_chunks: u64 = log.chunks.iter().map(|chunk| u64::from(chunk.live)).sum();
    LogFigures {
        name: log.name.to_string(),
        start: log.start,
        end: log.end,
        live: in_chunks + log.filed_live,
        bytes: log.bytes,
        settled_stretches: log.released.len(),
        segments: log.segments.len(),
        damage: log.damage.iter().collect(),
    }
}

/// As [`Folder::records`], as far as it may lie in `range`; neighbours may come with it.
fn read_within(shared: &Shared, log: &Log, range: &Range<u64>, sink: &mut RecordSink<'_>) {
    let mut at = log.start.max(range.start);
    let mut found = Vec::new();
    while at < log.stable.min(range.end) {
        found.clear();
        match read::records(shared, log, at, limits::SEARCH_BYTES, &mut found) {
            Ok(()) => {}
            Err(StoreError::Damaged { from, to }) => {
                sink(Err((from, to)));
                at = to.max(at + 1);
                continue;
            }
            Err(_) => return,
        }
        let Some(last) = found.last() else { return };
        at = last.offset + last.batch.len() as u64;
        found.iter().for_each(|records| sink(Ok(records)));
    }
}

/// Those of the logs that belong to nothing in the catalogue, and are not left alone yet. A
/// group belongs to a stream: a start removes it where there is none.
fn unlisted<'a>(state: &CatalogueState, names: &'a [String]) -> Vec<&'a String> {
    let has = |key: &str| state.entries.contains_key(key);
    let is_listed = |log: &str| {
        let entry = entry_of(log);
        has(entry) && stream_of(entry).is_none_or(|stream| has(&stream))
    };
    names.iter().filter(|name| !is_listed(name) && !has(&left_key(name))).collect()
}

/// The catalogue's key of the stream that a group is of; `None` for what is no group.
fn stream_of(entry: &str) -> Option<String> {
    let (stream, _group) = entry.strip_prefix("group/")?.rsplit_once('/')?;
    Some(format!("stream/{stream}"))
}

/// The catalogue's key of the queue, stream or group that a log is of.
fn entry_of(log: &str) -> &str {
    if log.starts_with("queue/") {
        return log;
    }
    log.rsplit_once('/').map_or(log, |(of, _partition)| of)
}

/// The catalogue's key that says that a log is left alone though it belongs to nothing.
fn left_key(log: &str) -> String {
    format!("left/{log}")
}
