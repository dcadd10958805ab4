//! The state that entries build up, one after the other.

use std::collections::{BTreeMap, HashMap, HashSet, hash_map};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use weir_core::store::Stamp;

use super::report::LostRange;
use super::source::Source;
use super::{Damage, RecoveryReport};
use crate::catalogue::CatalogueState;
use crate::format::{Block, CheckpointContent, Entry, EntryKind, parse_named};
use crate::log::{Body, Freed, Log, Place};
use crate::ranges::Ranges;
use crate::segment::{BlockIndex, Segment};

mod losses;
mod returned;

/// Numbers of logs left out behind missing blocks, which may have named new ones.
const GAP_LOGS: u64 = 1 << 32;

/// Logs and catalogue as far as they are known.
pub(super) struct Replay {
    logs: HashMap<u64, Log>,
    /// Ends that the checkpoint knew: records of level memory may have been last.
    ends: HashMap<u64, u64>,
    catalogue: CatalogueState,
    snapshots: BTreeMap<String, Bytes>,
    next_log: u64,
    /// One past the last record of each log that was met.
    met: HashMap<u64, u64>,
    /// One past the last offset that settlements name behind a log's end: those were kept in
    /// memory only, or are lost.
    settled_to: HashMap<u64, u64>,
    /// Stretches of offsets that were given twice, by log, as long as nobody is known to
    /// have given up the former records.
    given_twice: HashMap<u64, (u64, u64)>,
    /// Logs that may have been in missing blocks: the next append tells what was lost.
    suspects: HashMap<u64, Suspect>,
    /// Number of the last block of which the checkpoint has all.
    covered: u64,
    /// Ends of the records that logs had on the disk then. Not of those that were closed:
    /// nothing knows how many they had lost.
    kept_ends: HashMap<u64, u64>,
    /// What may be lost by holes of which the checkpoint has all but the records: log and
    /// first offset, number of the last such damage and end.
    holes: BTreeMap<(u64, u64), (usize, u64)>,
    /// Which damage of the report is missing blocks: more than records may have been in them.
    missing: HashSet<usize>,
    /// The last damage of the report that may have cost a log its name.
    unnamed: Option<usize>,
    /// First and last block that somebody has decided to go on without.
    accepted: Vec<(u64, u64)>,
    /// Names of logs that were removed: what they had lost is no loss any more.
    removed: HashSet<String>,
}

/// A log that may have been in missing blocks.
#[derive(Clone, Copy)]
struct Suspect {
    /// Where it must go on.
    expected: u64,
    /// Which damage of the report they are, the last of them.
    damage: usize,
}

impl Replay {
    pub(super) fn new(content: &CheckpointContent) -> Self {
        let mut catalogue = CatalogueState { revision: content.revision, ..Default::default() };
        for (key, revision, value) in &content.catalogue {
            catalogue.apply(key, Some(value.clone()), *revision);
        }
        let mut replay = Self {
            logs: HashMap::new(),
            ends: HashMap::new(),
            catalogue,
            snapshots: content.snapshots.iter().cloned().collect(),
            next_log: content.next_log,
            met: HashMap::new(),
            settled_to: HashMap::new(),
            given_twice: HashMap::new(),
            suspects: HashMap::new(),
            covered: content.covered,
            kept_ends: HashMap::new(),
            holes: BTreeMap::new(),
            missing: HashSet::new(),
            unnamed: None,
            accepted: Vec::new(),
            removed: HashSet::new(),
        };
        for state in &content.logs {
            let mut log = Log::new(state.log, state.name.as_str().into());
            log.start = state.start;
            log.released = state.released.iter().copied().collect::<Ranges>();
            if !log.is_cursor() {
                log.damage = state.damage.iter().copied().collect::<Ranges>();
            }
            // Not its latest time: of which append that was the checkpoint does not say.
            replay.ends.insert(state.log, state.end);
            if state.damage.is_empty() || log.damage.end() < state.end {
                replay.kept_ends.insert(state.log, state.kept_end);
            } else {
                // What stands for an unknown number of records is not settled with others.
                let last = state.end.saturating_sub(1);
                log.start = log.start.min(last);
                let placeholder = Ranges::from_iter([(last, state.end)]);
                log.released = log.released.minus(&placeholder, 0);
            }
            replay.logs.insert(state.log, log);
        }
        replay
    }

    pub(super) fn name_of(&self, log: u64) -> String {
        self.logs.get(&log).map_or_else(|| format!("log {log}"), |log| log.name.to_string())
    }

    pub(super) fn add_segment(&mut self, log: u64, segment: Segment) {
        let Some(log) = self.logs.get_mut(&log) else { return };
        log.end = log.end.max(segment.end);
        // A checkpoint may know of a loss that was put back since.
        let is_whole = |block: &&BlockIndex| u64::from(block.live) == block.end - block.base;
        let whole = segment.blocks.iter().filter(is_whole).map(|block| (block.base, block.end));
        log.damage = log.damage.minus(&whole.collect(), 0);
        let lost = log.damage.minus(&log.released, log.start);
        self.met.insert(log.number, segment.end);
        for block in &segment.blocks {
            let released: u64 = {
                let below = log.start.clamp(block.base, block.end) - block.base;
                let inside = log.released.within(block.base, block.end);
                let lost = lost.within(block.base, block.end);
                below + inside.iter().chain(&lost).map(|(from, to)| to - from).sum::<u64>()
            };
            // What is not there was released before it was filed.
            let live = (block.end - block.base).saturating_sub(released);
            let live = live.min(u64::from(block.live));
            let bytes = u64::from(block.bytes) * live / u64::from(block.live.max(1));
            log.filed_live += live;
            log.filed_bytes += bytes;
            log.bytes += bytes;
        }
        log.segments.push(segment);
    }

    pub(super) fn lose(&mut self, log: u64, from: u64, to: u64) {
        if let Some(log) = self.logs.get_mut(&log) {
            log.damage.insert(from, to);
            log.end = log.end.max(to);
        }
    }

    /// Blocks are missing here, the last of them `last_block`; it is to be damage number
    /// `damage` of the report. Of logs whose end the checkpoint knows all up to there is lost
    /// that is not met later. Any other's next append tells; one that has no next append may
    /// have lost its end. Logs of cursors have no records to lose: what a group had settled
    /// comes once more.
    pub(super) fn suspect(&mut self, last_block: u64, damage: usize) {
        // Numbers of logs that were opened there are not given again.
        self.next_log += GAP_LOGS;
        self.missing.insert(damage);
        self.unnamed = Some(damage);
        let is_covered = last_block <= self.covered;
        if is_covered {
            // Removed in these blocks, or not known of since: as if nothing had been settled.
            self.logs.retain(|number, log| !log.is_cursor() || self.ends.contains_key(number));
        }
        for (&number, log) in self.logs.iter_mut().filter(|(_, log)| !log.is_cursor()) {
            let from = self.met.get(&number).copied().unwrap_or(0).max(log.start);
            let Some(&to) = self.kept_ends.get(&number).filter(|_| is_covered) else {
                let new = Suspect { expected: from, damage };
                self.suspects.entry(number).or_insert(new).damage = damage;
                continue;
            };
            if from < to {
                log.damage.insert(from, to);
                log.end = log.end.max(to);
                self.holes.insert((number, from), (damage, to));
            }
        }
    }

    /// A log goes on at `base`: what lies between there and its end before the
    /// missing blocks is lost.
    fn meet(&mut self, number: u64, base: u64, report: &mut RecoveryReport) {
        self.replace_returned(number, base);
        let suspect = self.suspects.remove(&number);
        let Some(Suspect { expected, damage }) = suspect.filter(|it| base > it.expected) else {
            return;
        };
        self.lose(number, expected, base);
        let log = self.name_of(number);
        report.lose(damage, LostRange { log, from: expected, to: base });
    }

    /// Closes the logs that may have lost their end: none may be written to before
    /// the loss is accepted, or offsets would be given twice.
    fn close_suspects(&mut self, report: &mut RecoveryReport) {
        let mut unsure = HashSet::new();
        for (number, Suspect { expected, damage }) in std::mem::take(&mut self.suspects) {
            let was_closed = self.was_closed(number);
            let Some(log) = self.logs.get_mut(&number) else { continue };
            let from = expected.clamp(log.start, log.end);
            let from = log.released.end_of(from).unwrap_or(from);
            // A checkpoint may know of it.
            let is_closed =
                was_closed && from < log.end && log.damage.end_of(from) == Some(log.end);
            let to = if is_closed { log.end } else { log.end + 1 };
            log.damage.insert(from, to);
            (log.end, log.stable) = (to, to);
            unsure.insert(damage);
            report.lose(damage, LostRange { log: log.name.to_string(), from, to });
        }
        for (number, damage) in report.damage.iter_mut().enumerate() {
            if unsure.contains(&number) {
                damage.what.push_str("; how much is lost at the end of some logs is not known");
            }
        }
    }

    /// Applies a block whose header and table are sound.
    pub(super) fn block(
        &mut self,
        block: &Block,
        bytes: &Bytes,
        (file, at): (&Source, usize),
        report: &mut RecoveryReport,
    ) {
        for entry in &block.entries {
            // Whatever it says of a log, its number is taken.
            self.next_log = self.next_log.max(entry.log.saturating_add(1));
            let place = Place { sequence: file.sequence, at: at as u32 };
            if entry.body_is_sound(bytes) {
                self.entry(entry, bytes, place, report);
                continue;
            }
            let mut lost = Vec::new();
            if entry.kind == EntryKind::OpenLog {
                self.unnamed = Some(report.damage.len());
            }
            if entry.kind == EntryKind::Append {
                let (from, to) = (entry.a, entry.a + entry.b);
                self.meet(entry.log, from, report);
                lost.push(LostRange { log: self.name_of(entry.log), from, to });
                self.lose(entry.log, from, to);
                self.met.insert(entry.log, to);
            }
            report.damage.push(Damage {
                file: file.path.clone(),
                from: (at + entry.body.start) as u64,
                to: (at + entry.body.end) as u64,
                first_block: block.head.number,
                next_block: block.head.number + 1,
                what: format!("the body of a {:?} entry does not fit its CRC", entry.kind),
                lost,
            });
        }
    }

    fn entry(&mut self, entry: &Entry, bytes: &Bytes, place: Place, report: &mut RecoveryReport) {
        let body = bytes.slice(entry.body.clone());
        match entry.kind {
            EntryKind::Append => self.append(entry, place, report),
            EntryKind::OpenLog => {
                let name = String::from_utf8_lossy(&body).into_owned();
                self.logs.entry(entry.log).or_insert_with(|| Log::new(entry.log, name.into()));
            }
            EntryKind::RemoveLog => {
                self.removed.insert(self.name_of(entry.log));
                self.logs.remove(&entry.log);
                self.ends.remove(&entry.log);
                self.suspects.remove(&entry.log);
                self.given_twice.remove(&entry.log);
            }
            EntryKind::Put => {
                if let Some((key, value)) = split_name(&body) {
                    self.catalogue.apply(&key, Some(value), entry.a);
                }
            }
            // Of no log: damage by which no record is known to be lost.
            EntryKind::LossAccepted if entry.log == 0 => self.accepted.push((entry.a, entry.b)),
            EntryKind::Unput => {
                let key = String::from_utf8_lossy(&body).into_owned();
                self.catalogue.apply(&key, None, entry.a);
            }
            EntryKind::Snapshot => {
                if let Some((name, value)) = split_name(&body) {
                    self.snapshots.insert(name, value);
                }
            }
            _ => {
                for run in entry.settled() {
                    self.settle(entry, run);
                }
                let Some(log) = self.logs.get_mut(&entry.log) else { return };
                match entry.kind {
                    EntryKind::Trim => self.settle(entry, 0..entry.a),
                    EntryKind::Reset => log.reset(entry.a),
                    EntryKind::LossAccepted => {
                        let name = log.name.to_string();
                        // Only of one that reaches the end that is noted.
                        if entry.b == entry.c {
                            self.set_aside_behind(entry.log, entry.c, report);
                        }
                        self.accept_end(entry, name, report);
                        if let Some(log) = self.logs.get_mut(&entry.log) {
                            accept(log, entry.a, entry.b);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Whether the log was closed when the checkpoint was made.
    fn was_closed(&self, log: u64) -> bool {
        self.ends.contains_key(&log) && !self.kept_ends.contains_key(&log)
    }

    /// Settles a stretch as far as the log has it. What lies behind its end is noted: the
    /// log's next append tells which offsets of it were given again.
    fn settle(&mut self, entry: &Entry, run: Range<u64>) {
        // What stands for lost records of which nobody knows how many is none of them.
        let placeholder = u64::from(self.was_closed(entry.log));
        let Some(log) = self.logs.get_mut(&entry.log) else { return };
        let end = log.end.max(log.damage.end().saturating_sub(placeholder));
        let is_cursor = log.is_cursor();
        let to = if is_cursor { run.end } else { run.end.min(end) };
        match entry.kind {
            EntryKind::Trim => drop(log.trim(to)),
            _ => drop(log.release(run.start, to)),
        }
        if !is_cursor && run.end > end {
            let settled_to = self.settled_to.entry(entry.log).or_insert(0);
            *settled_to = run.end.max(*settled_to);
        }
    }

    /// A log that may have lost its end takes records again behind what was given
    /// up.
    fn accept_end(&mut self, entry: &Entry, log: String, report: &mut RecoveryReport) {
        let (from, to) = (entry.a, entry.b);
        let (Some(&Suspect { expected, damage }), Some(log_now)) =
            (self.suspects.get(&entry.log), self.logs.get(&entry.log))
        else {
            return;
        };
        // As it was closed when that was accepted, behind what was settled.
        let known = self.ends.get(&entry.log).copied().unwrap_or(0);
        let end = log_now.end.max(known).max(log_now.start);
        let expected = expected.clamp(log_now.start, end);
        if !(from..to).contains(&log_now.released.end_of(expected).unwrap_or(expected)) {
            return;
        }
        self.suspects.remove(&entry.log);
        report.lose(damage, LostRange { log, from, to });
        let end = self.ends.entry(entry.log).or_insert(0);
        *end = (*end).max(to);
    }

    fn append(&mut self, entry: &Entry, place: Place, report: &mut RecoveryReport) {
        report.records += entry.b;
        let (base, end) = (entry.a, entry.a + entry.b);
        if let hash_map::Entry::Vacant(unknown) = self.logs.entry(entry.log) {
            // Its removal follows, or its name was in a block that is lost.
            let Some(damage) = self.unnamed else { return };
            unknown.insert(Log::new(entry.log, found_name(entry.log)));
            // And so may be its first records.
            self.suspects.insert(entry.log, Suspect { expected: 0, damage });
        }
        // From here on offsets are given again: what was settled is of others.
        self.settled_to.remove(&entry.log);
        self.meet(entry.log, base, report);
        let Some(log) = self.logs.get_mut(&entry.log) else { return };
        if base > log.end && is_whole(log) {
            // A gap where nothing is lost: those were kept in memory only.
            log.pass_over(base);
        }
        let below = log.start.clamp(base, end) - base;
        let inside = log.released.within(base.max(log.start), end);
        let released = below + inside.iter().map(|(from, to)| to - from).sum::<u64>();
        let live = entry.b.saturating_sub(released);
        // The lengths that precede the messages do not count.
        let all = (entry.body.len() as u64).saturating_sub(4 * entry.b);
        let bytes_live = all * live / entry.b.max(1);
        self.met.insert(entry.log, end);
        log.damage = log.damage.minus(&Ranges::from_iter([(base, end)]), 0);
        log.time_max_ms = log.time_max_ms.max(entry.c);
        let known_end = log.end.max(end);
        // What was filed is in segments already.
        if live > 0 && base >= log.filed_end() {
            let stamp = Stamp { time_ms: entry.c, due_ms: entry.d };
            log.end = base;
            log.append(stamp, entry.level, entry.b as u32, bytes_live, Body::Journal(place));
            if let Some(chunk) = log.chunks.back_mut() {
                chunk.live = live as u32;
            }
        }
        log.end = known_end;
    }

    /// What it has come to.
    #[allow(clippy::type_complexity, reason = "taken apart at once")]
    pub(super) fn finish(
        mut self,
        report: &mut RecoveryReport,
    ) -> (HashMap<u64, Log>, CatalogueState, BTreeMap<String, Bytes>, u64) {
        self.set_replaced_aside();
        self.tell_holes(report);
        self.close_given_twice(report);
        for (number, log) in &mut self.logs {
            let known = self.ends.get(number).copied().unwrap_or(0);
            if !log.is_cursor() && !self.suspects.contains_key(number) && is_whole(log) {
                // Behind its last record only messages in memory had these offsets.
                let settled_to = self.settled_to.get(number).copied().unwrap_or(0);
                log.pass_over(known.max(settled_to).max(log.released.end()));
            }
            log.end = log.end.max(known).max(log.start);
            log.stable = log.end;
        }
        self.close_suspects(report);
        for log in self.logs.values_mut() {
            // What was settled or removed later is no loss.
            log.damage = unsettled_damage(log);
            // A checkpoint of an earlier version may name segments that hold nothing.
            log.drop_settled(&(0..u64::MAX), &mut Freed::default());
        }
        self.tell(report);
        (self.logs, self.catalogue, self.snapshots, self.next_log)
    }

    /// A log that was removed in a block that is missing, or whose name was: one of that name
    /// came later and keeps it.
    fn set_replaced_aside(&mut self) {
        let mut newest: HashMap<Arc<str>, u64> = HashMap::with_capacity(self.logs.len());
        for log in self.logs.values() {
            let number = newest.entry(log.name.clone()).or_insert(log.number);
            *number = log.number.max(*number);
        }
        self.logs.retain(|number, log| !log.is_cursor() || newest[&log.name] == *number);
        for (number, log) in &mut self.logs {
            if newest[&log.name] != *number {
                log.name = found_name(*number);
            }
        }
    }
}

/// Of a log whose own name nobody knows, or another has.
fn found_name(log: u64) -> Arc<str> {
    format!("lost+found/{log}").into()
}

/// What of a log is lost and was not settled or removed later.
fn unsettled_damage(log: &Log) -> Ranges {
    log.damage.minus(&log.released, log.start)
}

/// Whether nothing of a log is known to be lost. Where something is, nothing is passed over:
/// it must be told, whatever was settled of it.
fn is_whole(log: &Log) -> bool {
    unsettled_damage(log).iter().next().is_none()
}

/// The operator has accepted that these records are gone.
fn accept(log: &mut Log, from: u64, to: u64) {
    // Those in segments that no start knows to be lost are counted so far.
    for (from, to) in log.damage.gaps(from, to.min(log.filed_end())) {
        drop(log.release(from, to));
    }
    let left: Ranges = log.damage.iter().filter(|&(start, end)| start < from || end > to).collect();
    log.damage = left;
    // What of it is there counts no more.
    drop(log.release(from.max(log.filed_end()), to.min(log.end)));
    log.give_up(from, to);
    // They are not given again.
    log.end = log.end.max(to);
}

/// A copy: a slice would keep the whole journal file in memory.
fn split_name(body: &Bytes) -> Option<(String, Bytes)> {
    let (name, value) = parse_named(body).ok()?;
    Some((name.to_owned(), Bytes::copy_from_slice(value)))
}

#[cfg(test)]
mod tests;
