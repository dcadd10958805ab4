//! What a start finds: the newest sound checkpoint, then the journal from there.
//!
//! Torn and damaged are two things. A block that nothing behind it says was synced
//! is torn: it was never acknowledged, and it is cut off with all that follows. A
//! block that was synced and cannot be read is damage: nothing is cut, what is lost
//! is named, and the logs concerned take nothing more until an operator accepts the
//! loss. Running it twice gives the same; a crash in the middle changes nothing.

pub(crate) mod mark;
mod replay;
mod report;
mod source;
mod strays;
mod walk;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use weir_core::env::Clock;

use crate::catalogue::CatalogueState;
use crate::files::Files;
use crate::format::{self, CheckpointContent, HeadError};
use crate::keeper::checkpoint;
use crate::log::Log;
use crate::segment;
use crate::shared::JournalFile;
use crate::writer;
use replay::Replay;
pub use report::{Damage, LostRange, RecoveryReport, Torn};
use source::{Source, Sources};

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another broker uses this data folder (its `lock` is held)")]
    Locked,
    /// Written by a later version.
    #[error("{path} was made by a newer weir: format {version}, this one reads up to {known}")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        version: u16,
        /// The newest format this version reads.
        known: u16,
    },
    /// A file of another store.
    #[error("{path} belongs to another data folder: files must not be mixed")]
    Foreign {
        /// The file.
        path: String,
    },
    /// What says what there is cannot be read: never taken for "nothing".
    #[error("{what}; nothing was changed")]
    Metadata {
        /// One sentence.
        what: String,
    },
    /// The operator wants no start on damage.
    #[error("the store is damaged and `store.strict` is set: {summary}")]
    Strict {
        /// What is lost, one sentence.
        summary: String,
    },
    /// The operating system says no.
    #[error("{path}: {error}")]
    Io {
        /// What was tried on.
        path: String,
        /// What came back.
        error: std::io::Error,
    },
}

/// What a journal starts from.
pub(crate) struct Recovered {
    pub(crate) store_id: u128,
    /// Number of the next journal file.
    pub(crate) next_sequence: u64,
    pub(crate) next_block: u64,
    pub(crate) chain_crc: u32,
    /// Number of the last block that is synced now.
    pub(crate) synced_block: u64,
    /// First file that a start would read.
    pub(crate) replay_from: u64,
    pub(crate) journal_files: BTreeMap<u64, JournalFile>,
    pub(crate) logs: HashMap<Arc<str>, Log>,
    pub(crate) catalogue: CatalogueState,
    pub(crate) snapshots: BTreeMap<String, Bytes>,
    pub(crate) next_log: u64,
    /// Number of the newest checkpoint.
    pub(crate) checkpoint: u64,
    /// Where the checkpoint before it starts to read.
    pub(crate) previous_replay_from: u64,
    /// Journal files that no checkpoint needs any more.
    pub(crate) spares: Vec<String>,
    pub(crate) report: RecoveryReport,
}

/// How the folder is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// To be used: torn ends are cut, leftovers removed.
    ReadWrite,
    /// To be looked at: nothing is changed.
    ReadOnly,
}

pub(crate) fn io(path: &str) -> impl FnOnce(std::io::Error) -> OpenError + '_ {
    move |error| OpenError::Io { path: path.to_owned(), error }
}

/// Reads the folder.
///
/// # Errors
/// [`OpenError`]; nothing was changed.
pub(crate) fn recover(
    files: &Arc<dyn Files>,
    clock: &dyn Clock,
    new_store_id: u128,
    mode: Mode,
) -> Result<Recovered, OpenError> {
    let started = clock.now().steady_ms;
    let unclean = files.open("unclean").is_ok();
    let (journal, others) = journal_files(&**files)?;
    let checkpoints = read_checkpoints(&**files, mode)?;
    let mut report = RecoveryReport { clean: !unclean, ..RecoveryReport::default() };
    let newest = choose(&checkpoints, &mut report)?;
    if checkpoints.is_empty() && journal.is_empty() && strays::has_segments(&**files)? {
        // They would be removed as nobody's.
        let what = "there are segments, but neither journal nor checkpoint".to_owned();
        return Err(OpenError::Metadata { what });
    }
    if checkpoints.is_empty() && journal.first().is_some_and(|&sequence| sequence != 1) {
        let what = format!("there is no checkpoint, and {} is missing", writer::path(1));
        return Err(OpenError::Metadata { what });
    }
    let (mut store_id, mut content) = match newest {
        Some((_, store, content)) => (Some(store), content),
        None => (None, first_content()),
    };
    if let Some((store, synced)) = mark::read(&**files, mode, &mut report.heads)? {
        if *store_id.get_or_insert(store) != store {
            return Err(OpenError::Foreign { path: "synced".into() });
        }
        content.durable = content.durable.max(synced);
    }
    let wanted: Vec<u64> =
        journal.iter().copied().filter(|&sequence| sequence >= content.replay_from).collect();
    check_whole(&wanted, content.replay_from)?;
    let mut sources = Sources::open(&**files, &wanted, &mut store_id, &mut report.heads)?;
    let store_id = store_id.unwrap_or(new_store_id);
    let mut replay = Replay::new(&content);
    let heads = open_segments(&**files, store_id, &content, &mut replay, mode, &mut report)?;
    let end = walk::replay(&mut sources, &content, store_id, &mut replay, &mut report)?;
    if mode == Mode::ReadWrite {
        strays::clear(&**files, &others)?;
        if unclean {
            write_again(&mut sources, store_id, end.synced)?;
        }
        if let Some(torn) = &report.torn {
            cut(&**files, torn, &sources.files)?;
        }
    }
    let mut journal_files = BTreeMap::new();
    report.journal_files = sources.files.len() as u64;
    for source in sources.files {
        let Source { sequence, file, first_block, chain_crc, .. } = source;
        if report.torn.as_ref().is_none_or(|torn| sequence <= torn.sequence) {
            journal_files.insert(sequence, JournalFile { file, first_block, chain_crc });
        }
    }
    let (logs, catalogue, snapshots, next_log) = replay.finish(&mut report);
    tell_of_segments(&mut report, heads, &logs);
    if mode == Mode::ReadWrite {
        strays::remove(&**files, &logs, &newest_two(&checkpoints), !report.damage.is_empty())?;
    }
    // Without a gap behind those kept: what was cut off is gone.
    let last = journal_files.keys().next_back().or(journal.last());
    let next_sequence = last.map_or(1, |last| last + 1).max(content.replay_from);
    let two = newest_two(&checkpoints);
    let previous_replay_from = two.iter().map(|content| content.replay_from).min().unwrap_or(1);
    let old = journal.iter().filter(|&&sequence| sequence < previous_replay_from);
    let spares = old.map(|&sequence| writer::path(sequence)).collect();
    report.logs = logs.len() as u64;
    report.took_ms = clock.now().steady_ms.saturating_sub(started);
    Ok(Recovered {
        store_id,
        next_sequence,
        next_block: end.next_block,
        chain_crc: end.chain_crc,
        synced_block: if end.is_broken { end.synced } else { end.next_block - 1 },
        replay_from: content.replay_from,
        journal_files,
        logs: logs.into_values().map(|log| (log.name.clone(), log)).collect(),
        catalogue,
        snapshots,
        next_log,
        checkpoint: checkpoints.last().map_or(0, |(number, ..)| *number),
        previous_replay_from,
        spares,
        report,
    })
}

fn first_content() -> CheckpointContent {
    CheckpointContent { replay_from: 1, next_block: 1, next_log: 1, ..CheckpointContent::default() }
}

/// Numbers of the journal's files, and names of what else is in their folder.
fn journal_files(files: &dyn Files) -> Result<(Vec<u64>, Vec<String>), OpenError> {
    let (mut found, mut others, mut half_names) = (Vec::new(), Vec::new(), Vec::new());
    for entry in files.list("journal").map_err(io("journal"))? {
        let number = entry.name.strip_prefix("j-").and_then(|name| name.strip_suffix(".wj"));
        let path = format!("journal/{}", entry.name);
        match number.and_then(|number| u64::from_str_radix(number, 16).ok()) {
            Some(sequence) if writer::path(sequence) == path => found.push(sequence),
            Some(sequence) => {
                // A copy must not stand for the file itself.
                half_names.push((sequence, path));
                others.push(entry.name);
            }
            None => others.push(entry.name),
        }
    }
    found.sort_unstable();
    let is_behind = |number| found.first().is_none_or(|&first| number > first);
    refuse_half_names(&half_names, |number| is_behind(number) && !found.contains(&number))?;
    Ok((found, others))
}

/// Refuses what has half the name of a file that may be missing: it may be the file itself.
/// `is_needed` says so of its number.
fn refuse_half_names(
    half_names: &[(u64, String)],
    is_needed: impl Fn(u64) -> bool,
) -> Result<(), OpenError> {
    match half_names.iter().find(|(number, _)| is_needed(*number)) {
        Some((number, path)) => Err(OpenError::Metadata {
            what: format!(
                "{path} may be number {number:016x} under another name, which is missing"
            ),
        }),
        None => Ok(()),
    }
}

type Checkpoint = (u64, u128, CheckpointContent);

/// A checkpoint file: its number, and what it says or what is wrong with it.
type CheckpointFile = (u64, Result<(u128, CheckpointContent), String>);

/// Every checkpoint there is, oldest first, with what is wrong with the damaged.
fn read_checkpoints(files: &dyn Files, mode: Mode) -> Result<Vec<CheckpointFile>, OpenError> {
    let (mut found, mut half_names) = (Vec::new(), Vec::new());
    for entry in files.list("").map_err(io("."))? {
        let number =
            entry.name.strip_prefix("checkpoint-").and_then(|name| name.strip_suffix(".wc"));
        let Some(number) = number.and_then(|number| u64::from_str_radix(number, 16).ok()) else {
            continue;
        };
        if checkpoint::path(number) != entry.name {
            half_names.push((number, entry.name));
            continue;
        }
        let file = files.open(&entry.name).map_err(io(&entry.name))?;
        let read = match format::load(&*file, 0, entry.len as usize) {
            // The next start may be given it, and would miss what this one had cut and removed.
            Err(error) if mode == Mode::ReadWrite => return Err(io(&entry.name)(error)),
            Err(error) => Err(error.to_string()),
            Ok(bytes) => match CheckpointContent::decode(&bytes) {
                Ok((head, content)) if head.sequence == number => Ok((head.store, content)),
                Ok(_) => Err("its name and its head disagree".to_owned()),
                Err(format::CheckpointError::Head(HeadError::Newer(version))) => {
                    let (path, known) = (entry.name, format::FORMAT_VERSION);
                    return Err(OpenError::Newer { path, version, known });
                }
                Err(error) => Err(error.to_string()),
            },
        };
        found.push((number, read));
    }
    found.sort_by_key(|(number, _)| *number);
    let newest = found.last().map(|(number, _)| *number);
    refuse_half_names(&half_names, |number| newest.is_none_or(|newest| number > newest))?;
    Ok(found)
}

/// The newest sound one. The one before stands in for a damaged one.
fn choose(
    checkpoints: &[CheckpointFile],
    report: &mut RecoveryReport,
) -> Result<Option<Checkpoint>, OpenError> {
    let mut why = None;
    for (number, read) in checkpoints.iter().rev() {
        match read {
            Ok((store, content)) => {
                report.checkpoint = *number;
                report.checkpoint_fallback = why;
                return Ok(Some((*number, *store, content.clone())));
            }
            Err(error) => {
                why.get_or_insert(format!("{} is damaged: {error}", checkpoint::path(*number)));
            }
        }
    }
    match why {
        None => Ok(None),
        Some(what) => Err(OpenError::Metadata { what: format!("{what}, and there is no other") }),
    }
}

/// Those of the newest two that are sound: they may be needed; what came before them
/// is history.
fn newest_two(checkpoints: &[CheckpointFile]) -> Vec<&CheckpointContent> {
    let two = checkpoints.iter().rev().take(2).filter_map(|(_, read)| read.as_ref().ok());
    two.map(|(_, content)| content).collect()
}

/// Files must follow each other without a gap.
fn check_whole(wanted: &[u64], from: u64) -> Result<(), OpenError> {
    for (expected, &sequence) in (from..).zip(wanted) {
        if sequence != expected {
            let what = format!("{} is missing, and later files are there", writer::path(expected));
            return Err(OpenError::Metadata { what });
        }
    }
    Ok(())
}

/// Brings to the disk what an earlier process may have left unsynced: from here on
/// it counts as safe. A sync alone would not do: after one that failed, the
/// operating system shows what the disk does not have and takes it for synced.
fn write_again(sources: &mut Sources, store_id: u128, synced: u64) -> Result<(), OpenError> {
    for index in 0..sources.files.len() {
        // A file that another follows was synced before that one was begun.
        let next = sources.files.get(index + 1).map_or(0, |next| next.first_block);
        let bytes = if next == 0 || next > synced + 1 { Some(sources.bytes(index)?) } else { None };
        let source = &sources.files[index];
        let range = bytes.as_ref().and_then(|bytes| walk::unsure(source, bytes, store_id, synced));
        if let (Some(bytes), Some(range)) = (&bytes, range) {
            let written = source.file.write_at(&bytes[range.clone()], range.start as u64);
            written.map_err(io(&source.path))?;
        }
        // Twice: it may be one that was only allocated.
        for _ in 0..2 {
            source.file.sync_data().map_err(io(&source.path))?;
        }
    }
    Ok(())
}

/// Zeroes a torn end, so that nothing of it is ever met again, and removes what
/// lies in files behind it.
fn cut(files: &dyn Files, torn: &Torn, loaded: &[Source]) -> Result<(), OpenError> {
    let path = &torn.file;
    for later in loaded.iter().rev().filter(|file| file.sequence > torn.sequence) {
        files.remove(&later.path).map_err(io(&later.path))?;
    }
    files.sync_folder("journal").map_err(io("journal"))?;
    let file = files.open(path).map_err(io(path))?;
    // From the back, so that a crash on the way leaves a torn end again.
    let zeros = vec![0; 1 << 20];
    let mut end = torn.at + torn.bytes;
    while end > torn.at {
        let part = (end - torn.at).min(zeros.len() as u64);
        end -= part;
        file.write_at(&zeros[..part as usize], end).map_err(io(path))?;
    }
    file.sync_data().and_then(|()| file.sync_data()).map_err(io(path))
}

/// A damaged head or footer of a segment: path of the file, and what is wrong.
type BadHead = (String, String);

/// Opens the segments that the checkpoint names. Returns what is damaged and costs nothing.
fn open_segments(
    files: &dyn Files,
    store_id: u128,
    content: &CheckpointContent,
    replay: &mut Replay,
    mode: Mode,
    report: &mut RecoveryReport,
) -> Result<Vec<BadHead>, OpenError> {
    let mut heads = Vec::new();
    for state in &content.segments {
        let read_only = mode == Mode::ReadOnly;
        let path = segment::path(state.log, state.base, state.revision);
        let indexed = segment::open_index(files, store_id, state, read_only);
        let indexed = indexed.map_err(|error| not_opened(&path, error))?;
        replay.add_segment(state.log, indexed.segment);
        for damage in indexed.damage {
            if damage.costs_nothing {
                // As a loss it could be accepted, and be told again all the same.
                heads.push((path.clone(), damage.what));
                continue;
            }
            let (log, from, to) = (replay.name_of(state.log), damage.from, damage.to);
            let lost = if from < to { vec![LostRange { log, from, to }] } else { Vec::new() };
            if from < to {
                replay.lose(state.log, from, to);
            }
            report.damage.push(Damage {
                file: path.clone(),
                from: damage.bytes.start,
                to: damage.bytes.end,
                first_block: 0,
                next_block: 0,
                what: damage.what,
                lost,
            });
        }
    }
    Ok(heads)
}

/// Why a segment could not be opened.
fn not_opened(path: &str, error: std::io::Error) -> OpenError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<HeadError>()).copied();
    match inner {
        Some(HeadError::Newer(version)) => {
            OpenError::Newer { path: path.to_owned(), version, known: format::FORMAT_VERSION }
        }
        _ => io(path)(error),
    }
}

/// Leaves of the damage what is not of segments that nothing needs, and adds the `heads` that
/// are not: one that the checkpoint names may have been emptied since, and its file be gone.
fn tell_of_segments(report: &mut RecoveryReport, heads: Vec<BadHead>, logs: &HashMap<u64, Log>) {
    if report.damage.is_empty() && heads.is_empty() {
        return;
    }
    let paths = |log: &Log| -> Vec<String> {
        let segments = log.segments.iter();
        segments.map(|one| segment::path(log.number, one.base, one.revision)).collect()
    };
    let needed: HashSet<String> = logs.values().flat_map(paths).collect();
    let is_needed = |path: &String| !path.starts_with("logs/") || needed.contains(path);
    report.damage.retain(|damage| is_needed(&damage.file));
    let heads = heads.into_iter().filter(|(path, _)| is_needed(path));
    report.heads.extend(heads.map(|(path, what)| format!("{path}: {what}")));
}
