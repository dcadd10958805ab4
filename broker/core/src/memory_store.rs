//! A store that keeps everything in memory: the one behind `memory` level, and
//! the one that tests and the simulator hold back and fill up at will.
//!
//! Owned by one shard. Records lie in chunks, one per append; a chunk is freed
//! when its last record is released or trimmed. Invariants: offsets of a log
//! never go back, its stable position neither, and the bytes held never exceed
//! the store's bound.

mod catalogue;
mod cursor;
mod log;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hashbrown::HashMap;
use weir_message::Batch;

use crate::command::Level;
use crate::numbered::Numbered;
use crate::store::{Bounds, LogId, Records, Stamp, Store, StoreError};

pub use catalogue::MemoryCatalogue;
use log::Log;

/// Switches with which a test makes a [`MemoryStore`] slow or full. They stay
/// in the test's hands while the shard owns the store.
#[derive(Debug, Default)]
pub struct Faults {
    hold_stable: AtomicBool,
    no_space: AtomicBool,
}

impl Faults {
    /// While set, stable and safe positions stay where they are, as if a sync
    /// were running. Lifted, they catch up with the next append or commit.
    pub fn hold_stable(&self, on: bool) {
        self.hold_stable.store(on, Ordering::Relaxed);
    }

    /// While set, every append fails with [`StoreError::NoSpace`].
    pub fn no_space(&self, on: bool) {
        self.no_space.store(on, Ordering::Relaxed);
    }

    fn holds(&self) -> bool {
        self.hold_stable.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.no_space.load(Ordering::Relaxed)
    }
}

/// Logs and snapshots in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    level_max: Level,
    logs: Numbered<Log>,
    /// Number of the next one.
    next_log: u32,
    names: HashMap<String, LogId>,
    snapshots: HashMap<String, Bytes>,
    /// Logs whose end is ahead of their stable position.
    unstable: Vec<LogId>,
    /// Logs whose stable end has moved since that was asked.
    moved: Vec<LogId>,
    bytes_held: u64,
    bytes_max: u64,
    /// Number of commits.
    position: u64,
    /// Position of the last commit that was not held back.
    safe: u64,
    faults: Arc<Faults>,
}

impl MemoryStore {
    /// An empty store that holds at most `bytes_max` bytes of records, 0 for no
    /// bound. Beyond it, appends fail with [`StoreError::NoSpace`].
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// The same store, that says it is as safe as `level`. For tests: what it
    /// holds lives as long as the store, and as it may be handed from one shard
    /// to the next, that is long enough for a restart.
    #[must_use]
    pub fn claiming(self, level: Level) -> Self {
        Self { level_max: level, ..self }
    }

    /// Loses records `lost` of the log `name`, as a damaged disk would. For tests.
    pub fn damage_log(&mut self, name: &str, lost: Range<u64>) {
        if let Some(&log) = self.names.get(name) {
            self.log_mut(log).damage(lost);
        }
    }

    /// The store's switches, for tests.
    #[must_use]
    pub fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }

    /// Bytes of records held, those of half-released chunks included.
    #[must_use]
    pub fn bytes_held(&self) -> u64 {
        self.bytes_held
    }

    fn log(&self, log: LogId) -> &Log {
        self.logs.get(log.0).expect("the shard uses open logs only")
    }

    fn log_mut(&mut self, log: LogId) -> &mut Log {
        self.logs.get_mut(log.0).expect("the shard uses open logs only")
    }
}

impl Store for MemoryStore {
    fn level_max(&self) -> Level {
        self.level_max
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    fn open(&mut self, name: &str) -> Result<LogId, StoreError> {
        if let Some(&log) = self.names.get(name) {
            return Ok(log);
        }
        let log = LogId(self.next_log);
        self.next_log = self.next_log.checked_add(1).expect("fewer than 2^32 logs in one process");
        self.logs.put(log.0, Log::new(name));
        self.names.insert(name.to_owned(), log);
        Ok(log)
    }

    fn remove(&mut self, log: LogId) -> Result<(), StoreError> {
        if let Some(removed) = self.logs.take(log.0) {
            self.names.remove(removed.name());
            self.bytes_held -= removed.bytes_held();
        }
        self.unstable.retain(|&other| other != log);
        Ok(())
    }

    fn append(
        &mut self,
        log: LogId,
        expected: u64,
        stamp: Stamp,
        batch: Batch,
        _level: Level,
    ) -> Result<(), StoreError> {
        let added = batch.bytes.len() as u64;
        let over = self.bytes_max > 0 && self.bytes_held + added > self.bytes_max;
        let (full, holds) = (over || self.faults.is_full(), self.faults.holds());
        let target = self.log_mut(log);
        let actual = target.bounds().end;
        if actual != expected {
            return Err(StoreError::Moved { expected, actual });
        }
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(Range { start: from, end: to }) = target.damaged() {
            return Err(StoreError::Damaged { from, to });
        }
        if full {
            return Err(StoreError::NoSpace);
        }
        let was_stable = target.is_stable();
        target.append(stamp, batch);
        if !holds {
            target.settle();
            self.moved.push(log);
        } else if was_stable {
            self.unstable.push(log);
        }
        self.bytes_held += added;
        Ok(())
    }

    fn bounds(&self, log: LogId) -> Bounds {
        self.log(log).bounds()
    }

    fn read(
        &self,
        log: LogId,
        from: u64,
        bytes_max: usize,
        into: &mut Vec<Records>,
    ) -> Result<(), StoreError> {
        self.log(log).read(from, bytes_max, into)
    }

    fn offset_at(&self, log: LogId, time_ms: u64) -> u64 {
        self.log(log).offset_at(time_ms)
    }

    fn trim(&mut self, log: LogId, to: u64) {
        let freed = self.log_mut(log).trim(to);
        self.bytes_held -= freed;
    }

    fn release(&mut self, log: LogId, from: u64, to: u64, _level: Level) {
        let freed = self.log_mut(log).release(from, to);
        self.bytes_held -= freed;
    }

    fn sync(&mut self, _log: LogId, _level: Level) {}

    fn reset(&mut self, log: LogId, to: u64) {
        self.log_mut(log).reset(to);
    }

    fn settled(&self, log: LogId, from: u64) -> Option<Range<u64>> {
        self.log(log).settled(from)
    }

    fn damage(&self, log: LogId) -> Option<Range<u64>> {
        self.log(log).damaged()
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.position += 1;
        if !self.faults.holds() {
            self.safe = self.position;
        }
        if !self.unstable.is_empty() && !self.faults.holds() {
            for log in std::mem::take(&mut self.unstable) {
                self.log_mut(log).settle();
                self.moved.push(log);
            }
        }
        Ok(())
    }

    fn take_moved(&mut self, into: &mut Vec<LogId>) {
        self.moved.sort_unstable_by_key(|log| log.0);
        self.moved.dedup();
        into.append(&mut self.moved);
    }

    fn position(&self) -> u64 {
        self.position
    }

    /// Also at level memory what is held back by the switch is not safe.
    fn safe(&self, _level: Level) -> u64 {
        self.safe
    }

    fn put_snapshot(&mut self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.snapshots.insert(name.to_owned(), bytes);
        Ok(())
    }

    fn snapshot(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.snapshots.get(name).cloned())
    }
}
