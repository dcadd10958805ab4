//! Giving up what is lost: what a start finds, and what only reading tells.
//!
//! Invariants: nothing is given up but what was found twice, by a look and by the journal that
//! writes it down: what is read once in vain may be there. No broker starts while a folder is
//! looked at. Damage by which no record is known to be lost is accepted with all or not at all.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use weir_core::command::Level;
use weir_core::env::Clock;

use super::{Folder, ToolError, left_key, read_within, unlisted};
use crate::files::Files;
use crate::format::{EntryKind, named_body};
use crate::journal::{Journal, JournalConfig};
use crate::limits::SECTOR_BYTES;
use crate::log::Log;
use crate::order::Order;
use crate::ranges::Ranges;
use crate::recovery::{Damage, LostRange, OpenError};
use crate::shared::Shared;

/// Shortest journal file that is made here, bytes; the newest may be cut short.
const JOURNAL_FILE_BYTES_MIN: u64 = 1 << 20;

/// What a look at a folder has found.
struct Found {
    /// What a start would find.
    damage: Vec<Damage>,
    /// Stretches of each log that are lost then ...
    known: HashMap<String, Ranges>,
    /// ... and those of which only reading tells.
    unreadable: HashMap<String, Ranges>,
    /// Length of the newest journal file.
    journal_file_bytes: Option<u64>,
}

/// Accepts that what lies in `range` of the log is gone: readers pass over it, and the log
/// takes records again. Also what only reading tells, so all of the log is read. Returns the
/// stretches that were given up.
///
/// # Errors
/// [`ToolError`]; nothing is lost there, and nothing was given up.
pub fn accept_loss(
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    config: JournalConfig,
    log: &str,
    range: Range<u64>,
) -> Result<Vec<(u64, u64)>, ToolError> {
    let found = look(&files, &clock, |name| name == log)?;
    let Some(known) = found.known.get(log) else {
        return Err(ToolError::NotThere(format!("there is no log {log:?}")));
    };
    let mut lost: Vec<(u64, u64)> = known.iter().collect();
    if let Some(unreadable) = found.unreadable.get(log) {
        lost.extend(unreadable.iter());
    }
    if !lost.iter().any(|&stretch| is_within(stretch, &range)) {
        return Err(ToolError::NotThere(none_within(log, &range, &lost)));
    }
    let given_up = give_up(files, clock, config, &found, Some((log, &range)))?;
    Ok(given_up.into_iter().map(|lost| (lost.from, lost.to)).collect())
}

fn is_within((from, to): (u64, u64), range: &Range<u64>) -> bool {
    from >= range.start && to <= range.end
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
/// [`ToolError`]; nothing is lost, and nothing was given up.
pub fn accept_all_losses(
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    config: JournalConfig,
) -> Result<Vec<LostRange>, ToolError> {
    let found = look(&files, &clock, |_| true)?;
    if found.damage.is_empty() && found.unreadable.is_empty() {
        return Err(ToolError::NotThere("nothing is lost in this folder".to_owned()));
    }
    give_up(files, clock, config, &found, None)
}

/// Looks at the folder, and reads all of the logs that are meant.
fn look(
    files: &Arc<dyn Files>,
    clock: &Arc<dyn Clock>,
    is_meant: impl Fn(&str) -> bool,
) -> Result<Found, ToolError> {
    // Reading may take long, and what a broker does meanwhile would look like a loss.
    let _lock = files.lock().map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => OpenError::Locked,
        _ => OpenError::Io { path: "lock".to_owned(), error },
    })?;
    let folder = Folder::open(files.clone(), clock.clone())?;
    let (mut known, mut unreadable) = (HashMap::new(), HashMap::new());
    for name in folder.names().into_iter().filter(|name| is_meant(name)) {
        let log = Shared::lock(&folder.shared.recovered).get(name.as_str()).cloned();
        let Some(log) = log else { continue };
        let in_vain = read_in_vain(&folder.shared, &log, &(0..u64::MAX));
        if in_vain.len() > 0 {
            unreadable.insert(name.clone(), in_vain);
        }
        known.insert(name, log.damage);
    }
    let newest = Shared::lock(&folder.shared.journal_files).values().next_back().cloned();
    let len = newest.and_then(|newest| newest.file.len().ok());
    // One that was only allocated, or was cut short, ends within a sector.
    let journal_file_bytes = len.map(|len| len.next_multiple_of(SECTOR_BYTES as u64));
    let damage = folder.report().damage.clone();
    Ok(Found { damage, known, unreadable, journal_file_bytes })
}

/// What of `range` of a log is neither settled nor known to be lost, and cannot be read: a
/// start reads no messages in segments.
fn read_in_vain(shared: &Shared, log: &Log, range: &Range<u64>) -> Ranges {
    let mut found = Ranges::default();
    read_within(shared, log, range, &mut |records| {
        if let Err((from, to)) = records {
            drop(found.insert(from, to));
        }
    });
    let inside: Ranges = found.within(range.start, range.end).into_iter().collect();
    inside.minus(&log.damage, log.start).minus(&log.released, 0)
}

/// Gives up what is `meant` of what was found, all of it or what lies in a range of a log.
fn give_up(
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    config: JournalConfig,
    found: &Found,
    meant: Option<(&str, &Range<u64>)>,
) -> Result<Vec<LostRange>, ToolError> {
    // What is written takes next to no space, and may free some. For files that are longer
    // than the broker's there may be none.
    let (free_bytes_min, free_percent_min) = (0, 0);
    let newest = found.journal_file_bytes.unwrap_or(u64::MAX);
    let journal_file_bytes = config.journal_file_bytes.min(newest.max(JOURNAL_FILE_BYTES_MIN));
    let config = JournalConfig { free_bytes_min, free_percent_min, journal_file_bytes, ..config };
    let config = JournalConfig { strict: false, ..config };
    let journal = Journal::open(files, clock, config, 1)?;
    let (given_up, orders) = choose(&journal, found, meant);
    let is_nothing = orders.is_empty();
    let done = if is_nothing { Ok(()) } else { journal.hand_over(orders) };
    // What there was no room for fails the stop too, and not for that by name.
    let closed = journal.close();
    done?;
    closed?;
    if is_nothing {
        let what = "what was not there a moment ago is there now, so nothing was given up";
        return Err(ToolError::NotThere(what.to_owned()));
    }
    Ok(given_up)
}

/// What is meant of what was found and is found again, and the orders that give it up.
fn choose(
    journal: &Journal,
    found: &Found,
    meant: Option<(&str, &Range<u64>)>,
) -> (Vec<LostRange>, Vec<Order>) {
    let is_meant = |name: &str, stretch: (u64, u64)| {
        meant.is_none_or(|(log, range)| name == log && is_within(stretch, range))
    };
    let names = journal.unopened();
    let (mut given_up, mut orders) = (Vec::new(), Vec::new());
    let mut gone: HashMap<&str, Ranges> = HashMap::new();
    for name in &names {
        let Some((number, end, damage)) = journal.damage_of(name) else { continue };
        let gone = gone.entry(name.as_str()).or_default();
        let mut lose = |from: u64, to: u64, end: u64| {
            orders.push(accepted(number, from..to, end));
            drop(gone.insert(from, to));
            given_up.push(LostRange { log: name.clone(), from, to });
        };
        if let Some(known) = found.known.get(name) {
            for (from, to) in damage.iter().filter(|&stretch| is_meant(name, stretch)) {
                if known.gaps(from, to).is_empty() {
                    lose(from, to, if to == end { end } else { 0 });
                }
            }
        }
        let Some(unreadable) = found.unreadable.get(name) else { continue };
        // Held, or the keeper could remove meanwhile what the log lies in.
        let recovered = Shared::lock(&journal.shared.recovered);
        let Some(log) = recovered.get(name.as_str()) else { continue };
        for (from, to) in unreadable.iter().filter(|&stretch| is_meant(name, stretch)) {
            for (from, to) in read_in_vain(&journal.shared, log, &(from..to)).iter() {
                // It is known how many they are: the log's end is where it was.
                lose(from, to, 0);
            }
        }
    }
    let is_gone = |lost: &LostRange| {
        let gone = gone.get(lost.log.as_str());
        gone.is_some_and(|gone| gone.gaps(lost.from, lost.to).is_empty())
    };
    let told = &journal.report().damage;
    // Who gives up messages has not said that changes may be missing too.
    let is_accepted = |damage: &Damage| meant.is_none() && found.damage.contains(damage);
    let is_over = |&damage: &&Damage| {
        if damage.lost.is_empty() {
            return is_accepted(damage);
        }
        // A block is accepted with all that it said: where that is more, its log's entry has to do.
        let is_more = |other: &Damage| {
            let is_there = other.first_block == damage.first_block;
            is_there && other.lost.is_empty() && !is_accepted(other)
        };
        // What only a checkpoint knows of, and segments, have no blocks.
        damage.first_block > 0 && damage.lost.iter().all(is_gone) && !told.iter().any(is_more)
    };
    let over = told.iter().filter(is_over);
    orders.extend(over.map(|damage| accepted(0, damage.first_block..damage.next_block, 0)));
    if !orders.is_empty() && !told.is_empty() {
        // First: they must be there when nothing tells of the damage any more.
        drop(orders.splice(0..0, leave_alone(journal, &names)));
    }
    (given_up, orders)
}

/// Orders that logs without an entry in the catalogue are left alone, as a start does while
/// damage is found: the next one may find none, and their entries may be what is lost.
fn leave_alone(journal: &Journal, names: &[String]) -> Vec<Order> {
    let mut state = Shared::lock(&journal.shared.catalogue);
    let mut orders = Vec::new();
    for name in unlisted(&state, names) {
        let (key, revision) = (left_key(name), state.revision + 1);
        state.apply(&key, Some(Bytes::new()), revision);
        let (kind, level, body) = (EntryKind::Put, Level::Disk, named_body(&key, b""));
        orders.push(Order::Plain { kind, level, log: 0, numbers: [revision, 0, 0, 0], body });
    }
    orders
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
