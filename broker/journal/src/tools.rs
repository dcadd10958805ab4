//! A data folder without a broker: looked at, written out, read in. Nothing here
//! changes a folder but [`import`] and [`accept_loss`].

mod transfer;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use weir_core::command::Level;
use weir_core::env::Clock;
use weir_core::store::{Records, StoreError};

use crate::catalogue::CatalogueState;
use crate::files::Files;
use crate::format::{EntryKind, named_body};
use crate::journal::{Journal, JournalConfig};
use crate::log::Log;
use crate::order::Order;
use crate::ranges::Ranges;
use crate::recovery::{self, LostRange, Mode, OpenError, Recovered, RecoveryReport};
use crate::shared::{Shared, Start};
use crate::{limits, read};
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
            catalogue_keys: catalogue.entries.values().filter(|(_, v)| v.is_some()).count(),
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
        let Some(log) = Shared::lock(&self.shared.recovered).get(name).cloned() else { return };
        let mut at = log.start;
        let mut found = Vec::new();
        while at < log.stable {
            found.clear();
            match read::records(&self.shared, &log, at, limits::SEARCH_BYTES, &mut found) {
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

    /// What of a log is neither settled nor known to be lost, and cannot be read: a start
    /// reads no messages in segments.
    fn unreadable(&self, name: &str) -> Ranges {
        let mut found = Ranges::default();
        self.records(name, &mut |records| {
            if let Err((from, to)) = records {
                drop(found.insert(from, to));
            }
        });
        let logs = Shared::lock(&self.shared.recovered);
        let Some(log) = logs.get(name) else { return Ranges::default() };
        found.minus(&log.damage, log.start).minus(&log.released, 0)
    }

    /// The catalogue's keys and values.
    #[must_use]
    pub fn catalogue(&self) -> Vec<(String, Vec<u8>)> {
        let catalogue = Shared::lock(&self.shared.catalogue);
        let some = catalogue
            .entries
            .iter()
            .filter_map(|(key, (_, value))| Some((key.clone(), value.as_ref()?.to_vec())));
        some.collect()
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

/// Accepts that what lies in `range` of the log is gone: readers pass over it, and the log
/// takes records again. Also what only reading tells, so all of the log is read. Returns the
/// stretches that were given up.
///
/// # Errors
/// [`ToolError`]; nothing is lost there, and nothing was changed.
pub fn accept_loss(
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    config: JournalConfig,
    log: &str,
    range: Range<u64>,
) -> Result<Vec<(u64, u64)>, ToolError> {
    let folder = Folder::open(files.clone(), clock.clone())?;
    let figures = folder.figures();
    let found = figures.logs.iter().find(|one| one.name == log);
    let found = found.ok_or_else(|| ToolError::NotThere(format!("there is no log {log:?}")))?;
    let unreadable = folder.unreadable(log);
    drop(folder);
    let is_meant = |(from, to): (u64, u64)| from >= range.start && to <= range.end;
    let lost: Vec<(u64, u64)> = found.damage.iter().copied().chain(unreadable.iter()).collect();
    if !lost.iter().any(|&stretch| is_meant(stretch)) {
        return Err(ToolError::NotThere(none_within(log, &range, &lost)));
    }
    let unreadable = HashMap::from([(log.to_owned(), unreadable)]);
    let is_meant = |name: &str, stretch| name == log && is_meant(stretch);
    let given_up = give_up(files, clock, config, &unreadable, is_meant)?;
    Ok(given_up.into_iter().map(|lost| (lost.from, lost.to)).collect())
}

/// Why nothing of the log is given up.
fn none_within(log: &str, range: &Range<u64>, lost: &[(u64, u64)]) -> String {
    if lost.is_empty() {
        return format!("nothing of {log} is lost");
    }
    let lost: Vec<String> = lost.iter().map(|(from, to)| format!("{from}..{to}")).collect();
    format!(
        "nothing that is lost of {log} lies within {}..{} as a whole: lost is {}",
        range.start,
        range.end,
        lost.join(", ")
    )
}

/// As [`accept_loss`], of all logs; also damage by which no record is known to be
/// lost. Returns the stretches that were given up.
///
/// # Errors
/// [`ToolError`]; nothing is lost, and nothing was changed.
pub fn accept_all_losses(
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    config: JournalConfig,
) -> Result<Vec<LostRange>, ToolError> {
    let folder = Folder::open(files.clone(), clock.clone())?;
    let mut unreadable = HashMap::new();
    for name in folder.names() {
        let found = folder.unreadable(&name);
        if found.len() > 0 {
            unreadable.insert(name, found);
        }
    }
    if folder.report().damage.is_empty() && unreadable.is_empty() {
        return Err(ToolError::NotThere("nothing is lost in this folder".to_owned()));
    }
    drop(folder);
    give_up(files, clock, config, &unreadable, |_, _| true)
}

/// Gives up what `is_meant` of what a start finds lost, and of what is `unreadable`, by log;
/// where that is all that a start finds, the damage itself too.
fn give_up(
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    config: JournalConfig,
    unreadable: &HashMap<String, Ranges>,
    is_meant: impl Fn(&str, (u64, u64)) -> bool,
) -> Result<Vec<LostRange>, ToolError> {
    // What is written takes next to no space, and may free some.
    let (free_bytes_min, free_percent_min) = (0, 0);
    let config = JournalConfig { strict: false, free_bytes_min, free_percent_min, ..config };
    let journal = Journal::open(files, clock, config, 1)?;
    let (mut given_up, mut orders) = (Vec::new(), Vec::new());
    let mut is_all = true;
    let names = journal.unopened();
    for name in &names {
        let Some((number, end, damage)) = journal.damage_of(name) else { continue };
        let mut lost = |from, to| given_up.push(LostRange { log: name.clone(), from, to });
        for (from, to) in damage.iter() {
            if !is_meant(name, (from, to)) {
                is_all = false;
                continue;
            }
            orders.push(accepted(number, from..to, if to == end { end } else { 0 }));
            lost(from, to);
        }
        let Some(unreadable) = unreadable.get(name) else { continue };
        for (from, to) in unreadable.iter().filter(|&stretch| is_meant(name, stretch)) {
            // It is known how many they are: the log's end is where it was.
            orders.push(accepted(number, from..to, 0));
            lost(from, to);
        }
    }
    if is_all && !journal.report().damage.is_empty() {
        // First: they must be there when nothing tells of the damage any more.
        drop(orders.splice(0..0, leave_alone(&journal, &names)));
        // What only a checkpoint knows of has no blocks.
        let damage = journal.report().damage.iter();
        let blocks = damage.filter(|damage| damage.first_block > 0 || damage.lost.is_empty());
        orders.extend(blocks.map(|damage| accepted(0, damage.first_block..damage.next_block, 0)));
    }
    let done = journal.hand_over(orders);
    journal.close()?;
    done?;
    Ok(given_up)
}

/// Orders that logs without an entry in the catalogue are left alone, as a start does while
/// damage is found: the next one finds none, and their entries may be what is lost.
fn leave_alone(journal: &Journal, names: &[String]) -> Vec<Order> {
    let mut state = Shared::lock(&journal.shared.catalogue);
    let mut orders = Vec::new();
    for name in names {
        let key = left_key(name);
        if has_entry(&state, entry_of(name)) || has_entry(&state, &key) {
            continue;
        }
        let revision = state.revision + 1;
        state.apply(&key, Some(Bytes::new()), revision);
        let (kind, level, body) = (EntryKind::Put, Level::Disk, named_body(&key, b""));
        orders.push(Order::Plain { kind, level, log: 0, numbers: [revision, 0, 0, 0], body });
    }
    orders
}

fn has_entry(state: &CatalogueState, key: &str) -> bool {
    state.entries.get(key).is_some_and(|(_, value)| value.is_some())
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

/// Of log 0 the numbers are those of blocks.
/// `end` is that of the log where the stretch reaches it, else 0.
fn accepted(log: u64, Range { start, end: to }: Range<u64>, end: u64) -> Order {
    Order::Plain {
        kind: EntryKind::LossAccepted,
        level: Level::Disk,
        log,
        numbers: [start, to, end, 0],
        body: Vec::new(),
    }
}
