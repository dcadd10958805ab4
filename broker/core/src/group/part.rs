//! One partition as a group reads it: the facts of the messages it has taken,
//! and what was settled ahead of them before the process started.
//!
//! Owned by `Group`. Invariant: an offset that was settled is not taken again,
//! unless a seek says so.

use std::ops::Range;

use super::ring::Ring;
use super::slot::Slot;
use crate::command::Level;
use crate::store::{LogId, Store};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) log: LogId,
    /// Where settled offsets are noted: the log itself for a queue.
    pub(crate) cursor: LogId,
    /// Facts by offset; `next()` is where the group goes on to read.
    pub(crate) slots: Ring<Slot>,
    /// One past the last offset that was settled ahead of the group.
    settled_until: u64,
    /// Offsets from `slots.next()` on that are settled.
    settled_ahead: u64,
    /// First offset that could not be read and was passed over.
    damaged_from: u64,
}

impl Part {
    /// Goes on where `cursor` says, at the oldest message that is kept and not
    /// settled.
    ///
    /// What the cursor says of offsets that the log does not have (they were
    /// kept in memory only) is void: others will get them.
    pub(crate) fn resume(store: &mut dyn Store, log: LogId, cursor: LogId) -> Self {
        let bounds = store.bounds(log);
        let floor = store.bounds(cursor).start;
        let stretches = stretches(store, cursor, floor);
        let told = stretches.last().map_or(floor, |last| last.end);
        if cursor != log && told > bounds.end {
            store.reset(cursor, floor.min(bounds.end));
            let level = Level::Disk.min(store.level_max());
            for Range { start, end } in stretches.iter().filter(|one| one.start < bounds.end) {
                store.release(cursor, *start, (*end).min(bounds.end), level);
            }
        }
        let mut next = floor.max(bounds.start).min(bounds.end);
        let (mut settled_until, mut settled_ahead) = (next, 0);
        for Range { start, end } in stretches {
            let (start, end) = (start.min(bounds.end), end.min(bounds.end));
            if start <= next {
                next = next.max(end);
            } else {
                settled_ahead += end - start;
            }
            settled_until = settled_until.max(end);
        }
        Self {
            log,
            cursor,
            slots: Ring::new(next),
            settled_until,
            settled_ahead,
            damaged_from: u64::MAX,
        }
    }

    /// Starts at `to`, where nothing is settled, and notes it.
    pub(crate) fn restart(store: &mut dyn Store, log: LogId, cursor: LogId, to: u64) -> Self {
        store.reset(cursor, to);
        let slots = Ring::new(to);
        Self { log, cursor, slots, settled_until: to, settled_ahead: 0, damaged_from: u64::MAX }
    }

    /// Goes on behind a damaged stretch. Returns how many messages are passed over.
    pub(super) fn skip_damage(&mut self, store: &dyn Store, to: u64) -> u64 {
        let next = self.slots.next();
        self.damaged_from = self.damaged_from.min(next);
        self.skip_to(store, to.max(next + 1))
    }

    /// Everything below is settled for good. What is damaged is passed over in this
    /// process only: it may be put back, and giving it up is the operator's.
    pub(crate) fn floor(&self, stable: u64) -> u64 {
        self.slots.first().min(stable).min(self.damaged_from)
    }

    /// Messages in the log that are not taken and not settled.
    pub(crate) fn untaken(&self, store: &dyn Store) -> u64 {
        let bounds = store.bounds(self.log);
        let behind = bounds.end.saturating_sub(self.slots.next().max(bounds.start));
        behind.saturating_sub(self.settled_ahead)
    }

    /// Goes on behind what is settled. Returns where the next settled stretch
    /// starts, `u64::MAX` when there is none.
    pub(super) fn skip_settled(&mut self, store: &dyn Store) -> u64 {
        while self.slots.next() < self.settled_until {
            let next = self.slots.next();
            match store.settled(self.cursor, next) {
                Some(stretch) if stretch.start <= next => {
                    self.skip_to(store, stretch.end);
                }
                Some(stretch) => return stretch.start,
                None => break,
            }
        }
        u64::MAX
    }

    /// Goes on at `to`, if that lies ahead. Returns how many messages are passed
    /// over that were not settled.
    pub(super) fn skip_to(&mut self, store: &dyn Store, to: u64) -> u64 {
        let mut next = self.slots.next();
        let mut passed = to.saturating_sub(next);
        self.slots.skip_to(to);
        while next < to.min(self.settled_until) {
            let Some(stretch) = store.settled(self.cursor, next) else { break };
            let settled = stretch.end.min(to).saturating_sub(stretch.start.max(next));
            passed -= settled;
            self.settled_ahead = self.settled_ahead.saturating_sub(settled);
            next = stretch.end;
        }
        if self.slots.next() >= self.settled_until {
            self.settled_ahead = 0;
        }
        passed
    }
}

/// What is settled from `floor` on.
fn stretches(store: &dyn Store, cursor: LogId, floor: u64) -> Vec<Range<u64>> {
    let mut stretches = Vec::new();
    let mut at = floor;
    while let Some(stretch) = store.settled(cursor, at) {
        at = stretch.end;
        stretches.push(stretch.start.max(floor)..stretch.end);
    }
    stretches
}
