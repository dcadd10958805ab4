//! One shard's share of the journal: its logs, the turn that forms, and the memory
//! that bodies take.
//!
//! Owned by the shard. A turn's operations change the logs at once and go to the
//! writer together at `commit`, so a crash keeps all of a turn or none of it. The
//! keeper asks through the inbox and is answered in `commit`, when no turn is open.
//! Invariants: bodies in memory never exceed the bound by more than what the writer
//! has not written yet; a body leaves memory only when the journal has it.

mod turn;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use weir_core::command::Level;
use weir_core::numbered::Numbered;
use weir_core::store::{Bounds, LogId, Records, Stamp, Store, StoreError};
use weir_message::Batch;

use crate::format::{EntryKind, named_body};
use crate::keeper::{Ask, FiledLog, Told};
use crate::limits;
use crate::log::{Body, Chunk, Freed, Log, resident};
use crate::order::{self, Order};
use crate::read;
use crate::shared::{Inbox, Shared};
use crate::waits::Waits;

/// See the file's head.
pub struct JournalStore {
    shared: Arc<Shared>,
    number: usize,
    inbox: Arc<Inbox>,
    logs: Numbered<Log>,
    /// Number of the next one here.
    next_log: u32,
    names: HashMap<Arc<str>, LogId>,
    by_number: HashMap<u64, LogId>,
    turn: Vec<Order>,
    /// Appends of the turn: log, base, end, level.
    appended: Vec<(LogId, u64, u64, Level)>,
    position: u64,
    waits: Waits,
    /// Logs whose stable end has moved since that was asked.
    moved: Vec<LogId>,
    /// Bodies in memory that may leave it, oldest first, and some that have gone.
    resident: VecDeque<(LogId, u64)>,
    /// How many of those have gone.
    resident_gone: usize,
    resident_bytes: u64,
    resident_max: u64,
    /// Bytes of level memory: they cannot leave.
    pinned_bytes: u64,
    /// Room on the disk that was taken and is not used yet, bytes.
    room_held: u64,
    /// To be told when the turn is handed over: removed logs, emptied segments.
    gone: Vec<Gone>,
    /// The journal counts on what this turn hands over.
    is_in_turn: bool,
    /// When the last hand-over was left to another store, if it was, steady ms.
    left_ms: Option<u64>,
}

enum Gone {
    Log(u64),
    Segments(u64, Vec<u64>),
}

impl JournalStore {
    pub(crate) fn new(
        shared: Arc<Shared>,
        resident_max: u64,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let (number, inbox) = shared.add_store(wake);
        Self {
            shared,
            number,
            inbox,
            logs: Numbered::default(),
            next_log: 0,
            names: HashMap::new(),
            by_number: HashMap::new(),
            turn: Vec::new(),
            appended: Vec::new(),
            position: 0,
            waits: Waits::default(),
            moved: Vec::new(),
            resident: VecDeque::new(),
            resident_gone: 0,
            resident_bytes: 0,
            resident_max,
            pinned_bytes: 0,
            room_held: 0,
            gone: Vec::new(),
            is_in_turn: false,
            left_ms: None,
        }
    }

    /// Bytes of message bodies in memory.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes + self.pinned_bytes
    }

    /// Goes on at offset `to`, leaving out what is between: for records that are
    /// brought from elsewhere.
    pub(crate) fn leave_gap(&mut self, log: LogId, to: u64) {
        let log = self.log_mut(log);
        log.end = log.end.max(to);
    }

    fn log(&self, log: LogId) -> &Log {
        self.logs.get(log.0).expect("the shard uses open logs only")
    }

    fn log_mut(&mut self, log: LogId) -> &mut Log {
        self.logs.get_mut(log.0).expect("the shard uses open logs only")
    }

    fn order(&mut self, kind: EntryKind, level: Level, log: u64, numbers: [u64; 4], body: Vec<u8>) {
        self.begin_turn(level);
        self.turn.push(Order::Plain { kind, level, log, numbers, body });
    }

    fn book(&mut self, log: u64, freed: Freed) {
        self.resident_bytes -= freed.resident.min(self.resident_bytes);
        self.resident_gone += freed.bodies;
        self.pinned_bytes -= freed.pinned.min(self.pinned_bytes);
        if !freed.segments.is_empty() {
            self.gone.push(Gone::Segments(log, freed.segments));
        }
    }

    fn settle(&mut self) {
        // In this order: what is synced is never behind what is written.
        let synced = self.shared.synced();
        let safe = [u64::MAX, self.shared.written(), synced];
        for wait in self.waits.take_over(safe) {
            let Some(log) = self.logs.get_mut(wait.log.0) else { continue };
            log.waiting.over();
            log.stable = log.stable.max(wait.end);
            if !std::mem::replace(&mut log.has_moved, true) {
                self.moved.push(wait.log);
            }
        }
    }

    /// Lets bodies leave memory that the journal has, oldest first.
    fn evict(&mut self) {
        while self.resident_bytes > self.resident_max {
            let Some(&(log, base)) = self.resident.front() else { return };
            let mut is_gone = true;
            if let Some(log) = self.logs.get_mut(log.0)
                && let Some(at) = log.chunk_from(base)
            {
                let chunk = &mut log.chunks[at];
                if let Body::Memory(batch, _) = &chunk.body {
                    // Not written yet: nor is what was appended after it.
                    let Some(place) = chunk.place() else { return };
                    self.resident_bytes -= resident(batch).min(self.resident_bytes);
                    chunk.body = Body::Journal(place);
                    let merged = merge_with_previous(&mut log.chunks, at);
                    log.leaving = if merged { at } else { at + 1 };
                    is_gone = false;
                }
            }
            self.resident_gone -= usize::from(is_gone).min(self.resident_gone);
            self.resident.pop_front();
        }
    }

    /// Drops entries of bodies that went without having to leave: they were settled.
    /// Where all are, nothing ever is evicted, and the line would grow for ever. Done
    /// when it is half of the line, so that each look is paid for by those that went.
    fn forget_gone(&mut self) {
        if self.resident_gone < limits::RESIDENT_LOOK.max(self.resident.len() / 2) {
            return;
        }
        let logs = &self.logs;
        self.resident.retain(|&(log, base)| {
            let log = logs.get(log.0);
            let in_memory = |log: &Log, at: usize| matches!(log.chunks[at].body, Body::Memory(..));
            log.is_some_and(|log| log.chunk_from(base).is_some_and(|at| in_memory(log, at)))
        });
        self.resident_gone = 0;
        self.resident.shrink_to((2 * self.resident.len()).max(limits::RESIDENT_LOOK));
    }

    fn answer_asks(&mut self) {
        let asks = std::mem::take(&mut *Shared::lock(&self.inbox.asks));
        for ask in asks {
            match ask {
                Ask::Collect { round, through } => {
                    let logs = self.logs.iter();
                    let logs = logs.filter_map(|log| log.collect(through)).collect();
                    self.shared.tell(Told::Collected { store: self.number, round, logs });
                }
                Ask::Filed { logs, .. } => {
                    logs.into_iter().for_each(|filed| self.filed(filed));
                }
                Ask::Capture { round } => {
                    // What the captured state stands on must be synced before it.
                    let logs = self.logs.iter().map(Log::capture).collect();
                    let (store, position) = (self.number, self.position);
                    self.shared.tell(Told::Captured { store, round, position, logs });
                }
            }
        }
        self.tell_gone();
    }

    fn filed(&mut self, filed: FiledLog) {
        let Some(&id) = self.by_number.get(&filed.log) else { return };
        let Some(log) = self.logs.get_mut(id.0) else { return };
        let freed = log.filed(filed.segments, filed.through);
        self.book(filed.log, freed);
    }

    fn adopt(&mut self, log: Log) -> LogId {
        let id = LogId(self.next_log);
        self.next_log = self.next_log.checked_add(1).expect("fewer than 2^32 logs in one process");
        self.names.insert(log.name.clone(), id);
        self.by_number.insert(log.number, id);
        self.logs.put(id.0, log);
        id
    }

    fn refuse_when_closed(&self, log: &Log) -> Result<(), StoreError> {
        match log.damage.iter().next() {
            Some((from, to)) => Err(StoreError::Damaged { from, to }),
            None => Ok(()),
        }
    }
}

/// Neighbours in one block, of one stamp, are one chunk once both have left memory.
/// Whether they are now.
fn merge_with_previous(chunks: &mut VecDeque<Chunk>, at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return false };
    let (one, two) = (&chunks[before], &chunks[at]);
    let (Body::Journal(first), Body::Journal(second)) = (&one.body, &two.body) else {
        return false;
    };
    let alike = first == second
        && (one.stamp, one.level) == (two.stamp, two.level)
        && one.end() == two.base
        && one.live == one.count
        && two.live == two.count
        && one.count.checked_add(two.count).is_some();
    if alike && let Some(two) = chunks.remove(at) {
        let one = &mut chunks[before];
        one.count += two.count;
        one.live += two.live;
        one.bytes += two.bytes;
        one.time_max_ms = two.time_max_ms;
    }
    alike
}

impl Store for JournalStore {
    fn level_max(&self) -> Level {
        Level::Disk
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains_key(name) || Shared::lock(&self.shared.recovered).contains_key(name)
    }

    fn open(&mut self, name: &str) -> Result<LogId, StoreError> {
        self.shared.check()?;
        if let Some(&log) = self.names.get(name) {
            return Ok(log);
        }
        let recovered = Shared::lock(&self.shared.recovered).remove(name);
        if let Some(log) = recovered {
            return Ok(self.adopt(log));
        }
        let number = self.shared.next_log.fetch_add(1, Ordering::Relaxed);
        // As safe as the safest record it may get: a record needs its log's name.
        let body = name.as_bytes().to_vec();
        self.order(EntryKind::OpenLog, Level::Os, number, [0; 4], body);
        Ok(self.adopt(Log::new(number, name.into())))
    }

    fn remove(&mut self, log: LogId) -> Result<(), StoreError> {
        self.shared.check()?;
        if let Some(removed) = self.logs.take(log.0) {
            self.names.remove(&removed.name);
            self.by_number.remove(&removed.number);
            let mut freed = Freed::default();
            removed.chunks.iter().for_each(|chunk| freed.let_go(chunk));
            self.book(removed.number, freed);
            self.order(EntryKind::RemoveLog, Level::Disk, removed.number, [0; 4], Vec::new());
            self.gone.push(Gone::Log(removed.number));
        }
        Ok(())
    }

    fn append(
        &mut self,
        log: LogId,
        expected: u64,
        stamp: Stamp,
        batch: Batch,
        level: Level,
    ) -> Result<(), StoreError> {
        self.shared.check()?;
        let target = self.log(log);
        let (number, actual) = (target.number, target.end);
        if actual != expected {
            return Err(StoreError::Moved { expected, actual });
        }
        self.refuse_when_closed(target)?;
        if batch.is_empty() {
            return Ok(());
        }
        if order::body_bytes(&batch) > self.shared.config.block_bytes() {
            return self.append_in_pieces(log, stamp, batch, level);
        }
        self.take_room(level, resident(&batch))?;
        self.append_piece((log, number, actual), stamp, batch, level);
        Ok(())
    }

    fn bounds(&self, log: LogId) -> Bounds {
        let log = self.log(log);
        Bounds { start: log.start, end: log.end, stable: log.stable, bytes: log.bytes }
    }

    fn read(
        &self,
        log: LogId,
        from: u64,
        bytes_max: usize,
        into: &mut Vec<Records>,
    ) -> Result<(), StoreError> {
        read::records(&self.shared, self.log(log), from, bytes_max, into)
    }

    fn offset_at(&self, log: LogId, time_ms: u64) -> u64 {
        read::offset_at(&self.shared, self.log(log), time_ms)
    }

    fn trim(&mut self, log: LogId, to: u64) {
        let target = self.log_mut(log);
        let number = target.number;
        // What is released already says as much by itself.
        let told = target.released.end_of(target.start).is_some_and(|end| end >= to);
        let freed = target.trim(to);
        if freed.any && !told {
            self.order(EntryKind::Trim, Level::Os, number, [to, 0, 0, 0], Vec::new());
        }
        self.book(number, freed);
    }

    fn release(&mut self, log: LogId, from: u64, to: u64, level: Level) {
        let target = self.log_mut(log);
        let number = target.number;
        let freed = target.release(from, to);
        if freed.any && level != Level::Memory {
            self.begin_turn(level);
            order::release(&mut self.turn, level, number, from, to);
        }
        self.book(number, freed);
    }

    fn sync(&mut self, log: LogId, level: Level) {
        // Also where all is safe by now: more may be settled in this turn.
        let asked = self.turn.iter().map(Order::level).max();
        if level != Level::Memory && asked < Some(level) {
            // Says nothing new; what lies before it, and in its turn, is synced with it.
            let Log { number, start, .. } = *self.log(log);
            self.order(EntryKind::Trim, level, number, [start, 0, 0, 0], Vec::new());
        }
    }

    fn reset(&mut self, log: LogId, to: u64) {
        let target = self.log_mut(log);
        target.reset(to);
        let number = target.number;
        self.order(EntryKind::Reset, Level::Disk, number, [to, 0, 0, 0], Vec::new());
    }

    fn settled(&self, log: LogId, from: u64) -> Option<Range<u64>> {
        let log = self.log(log);
        if from < log.start {
            return Some(0..log.start);
        }
        log.released.next(from)
    }

    fn take_moved(&mut self, into: &mut Vec<LogId>) {
        for log in self.moved.drain(..) {
            if let Some(moved) = self.logs.get_mut(log.0) {
                moved.has_moved = false;
                into.push(log);
            }
        }
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn safe(&self, level: Level) -> u64 {
        match level {
            Level::Memory => u64::MAX,
            Level::Os => self.shared.written(),
            Level::Disk => self.shared.synced(),
        }
    }

    fn damage(&self, log: LogId) -> Option<Range<u64>> {
        self.log(log).damage.iter().next().map(|(from, to)| from..to)
    }

    fn waits_for_another(&self) -> bool {
        self.left_ms.is_some() && self.shared.written() < self.position
    }

    fn is_congested(&self) -> bool {
        self.shared.pending_bytes() > limits::PENDING_BYTES_MAX
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.shared.check()?;
        self.hand_over()?;
        self.settle();
        self.answer_asks();
        self.evict();
        self.forget_gone();
        Ok(())
    }

    fn put_snapshot(&mut self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.shared.check()?;
        let body = named_body(name, &bytes);
        Shared::lock(&self.shared.snapshots).insert(name.to_owned(), bytes);
        self.order(EntryKind::Snapshot, Level::Os, 0, [0; 4], body);
        Ok(())
    }

    fn snapshot(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(Shared::lock(&self.shared.snapshots).get(name).cloned())
    }
}

#[cfg(test)]
mod tests;
