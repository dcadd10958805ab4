//! What a stream's log has released between its first and its last message: how many
//! offsets, in how many stretches.
//!
//! Owned by `Stream`, one per partition, and kept beside the store, which knows the
//! stretches and does not count them. Invariants: the counts are those of the stretches
//! from the log's start on; no stretch begins there, because a log begins with a message
//! that it keeps.

use std::ops::Range;

use crate::command::Level;
use crate::store::{LogId, Store};

/// See the file's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holes {
    /// Offsets released.
    pub(crate) count: u64,
    /// Stretches of neighbours among them.
    pub(crate) stretches: usize,
}

/// The log has as many stretches as it may have.
#[derive(Debug)]
pub(crate) struct Full;

impl Holes {
    /// Of a log as it is found.
    pub(crate) fn of(store: &dyn Store, log: LogId) -> Self {
        let bounds = store.bounds(log);
        let mut holes = Self::default();
        each(store, log, bounds.start..bounds.end, |hole| holes.add(hole));
        holes
    }

    fn add(&mut self, hole: Range<u64>) {
        self.count += hole.end - hole.start;
        self.stretches += 1;
    }

    fn take(&mut self, hole: Range<u64>) {
        self.count = self.count.saturating_sub(hole.end - hole.start);
        self.stretches = self.stretches.saturating_sub(1);
    }

    /// Releases `from..to` of `log`. Returns what of it was not released before.
    ///
    /// # Errors
    /// [`Full`] when that would be one stretch more than `stretches_max`; then nothing
    /// has changed.
    pub(crate) fn release(
        &mut self,
        store: &mut dyn Store,
        log: LogId,
        (from, to): (u64, u64),
        level: Level,
        stretches_max: usize,
    ) -> Result<Vec<Range<u64>>, Full> {
        let start = store.bounds(log).start;
        let from = from.max(start);
        if from >= to {
            return Ok(Vec::new());
        }
        // With its neighbours on both sides, for they become one with it.
        let (mut fresh, mut at) = (Vec::new(), from);
        let mut joined = Self::default();
        let around = from.saturating_sub(1).max(start)..to + 1;
        let mut probe = around.start;
        while let Some(hole) = store.settled(log, probe).filter(|hole| hole.start < around.end) {
            joined.stretches += 1;
            if hole.start > at {
                fresh.push(at..hole.start.min(to));
            }
            at = at.max(hole.end);
            probe = hole.end;
        }
        if at < to {
            fresh.push(at..to);
        }
        if fresh.is_empty() {
            return Ok(fresh);
        }
        if joined.stretches == 0 && from > start && self.stretches >= stretches_max {
            return Err(Full);
        }
        self.count += fresh.iter().map(|fresh| fresh.end - fresh.start).sum::<u64>();
        self.stretches = (self.stretches + 1).saturating_sub(joined.stretches);
        store.release(log, from, to, level);
        if let Some(first) = store.settled(log, start).filter(|first| first.start <= start) {
            self.take(start..first.end);
            store.trim(log, first.end);
        }
        Ok(fresh)
    }

    /// The first offset from `at` on that is not released.
    pub(crate) fn end_at(&self, store: &dyn Store, log: LogId, at: u64) -> u64 {
        let hole = (self.count > 0).then(|| store.settled(log, at)).flatten();
        hole.filter(|hole| hole.start <= at).map_or(at, |hole| hole.end)
    }

    /// The log is about to lose `start..to`, which cuts no stretch. Returns how many
    /// messages that are.
    pub(crate) fn trim(&mut self, store: &dyn Store, log: LogId, (start, to): (u64, u64)) -> u64 {
        let mut gone = Self::default();
        if self.count > 0 {
            each(store, log, start..to, |hole| gone.add(hole));
            self.count = self.count.saturating_sub(gone.count);
            self.stretches = self.stretches.saturating_sub(gone.stretches);
        }
        to - start - gone.count
    }

    /// First offset such that `messages` lie before it, from `start` on.
    pub(crate) fn behind(
        &self,
        store: &dyn Store,
        log: LogId,
        (start, end): (u64, u64),
        messages: u64,
    ) -> u64 {
        let mut at = start.saturating_add(messages).min(end);
        if self.count > 0 {
            // `at` is right but for the holes behind `passed`.
            let mut passed = start;
            while let Some(hole) = store.settled(log, passed).filter(|hole| hole.start < at) {
                at = at.saturating_add(hole.end - hole.start.max(passed)).min(end);
                passed = hole.end;
            }
        }
        at
    }
}

/// Calls `work` with what of `range` is released, in order.
pub(crate) fn each(
    store: &dyn Store,
    log: LogId,
    range: Range<u64>,
    mut work: impl FnMut(Range<u64>),
) {
    let mut at = range.start;
    while at < range.end {
        let Some(hole) = store.settled(log, at).filter(|hole| hole.start < range.end) else {
            return;
        };
        work(hole.start.max(range.start)..hole.end.min(range.end));
        at = hole.end;
    }
}
