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
use crate::stream::holes;

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
    /// Offsets from `slots.next()` on that a stream's log has released, less those
    /// that are settled.
    holes_ahead: u64,
    /// First offset that could not be read and was passed over.
    damaged_from: u64,
}

impl Part {
    /// Goes on where `cursor` says, at the oldest message that is kept and not
    /// settled.
    ///
    /// What the cursor says of offsets that the log does not have (they were
    /// kept in memory only) is void: others will get them. Not where the log has lost
    /// some: then those may be among them, and come back.
    pub(crate) fn resume(store: &mut dyn Store, log: LogId, cursor: LogId) -> Self {
        let bounds = store.bounds(log);
        let floor = store.bounds(cursor).start;
        let stretches = stretches(store, cursor, floor);
        let told = stretches.last().map_or(floor, |last| last.end);
        if cursor != log && told > bounds.end && store.damage(log).is_none() {
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
        let mut part = Self { settled_until, settled_ahead, ..Self::at(log, cursor, next) };
        part.holes_ahead = part.holes(store, next, bounds.end);
        part
    }

    /// Starts at `to`, where nothing is settled, and notes it.
    pub(crate) fn restart(store: &mut dyn Store, log: LogId, cursor: LogId, to: u64) -> Self {
        store.reset(cursor, to);
        let mut part = Self::at(log, cursor, to);
        part.holes_ahead = part.holes(store, to, store.bounds(log).end);
        part
    }

    /// At `next`, with nothing settled or released behind it.
    fn at(log: LogId, cursor: LogId, next: u64) -> Self {
        Self {
            log,
            cursor,
            slots: Ring::new(next),
            settled_until: next,
            settled_ahead: 0,
            holes_ahead: 0,
            damaged_from: u64::MAX,
        }
    }

    /// Goes on behind a damaged stretch. Returns how many messages are passed over.
    pub(super) fn skip_damage(&mut self, store: &dyn Store, to: u64) -> u64 {
        let next = self.slots.next();
        self.note_damage(next);
        self.skip_to(store, to.max(next + 1))
    }

    /// What lies at `offset` cannot be read, and is not settled.
    pub(super) fn note_damage(&mut self, offset: u64) {
        self.damaged_from = self.damaged_from.min(offset);
    }

    /// Everything below is settled for good. What is damaged is passed over in this
    /// process only: it may be put back, and giving it up is the operator's.
    pub(crate) fn floor(&self, stable: u64) -> u64 {
        self.slots.first().min(stable).min(self.damaged_from)
    }

    /// Offsets in `from..to` that a stream's log has released and nobody has settled.
    fn holes(&self, store: &dyn Store, from: u64, to: u64) -> u64 {
        if self.cursor == self.log {
            return 0;
        }
        let mut holes = 0;
        holes::each(store, self.log, from..to, |hole| holes += self.unsettled(store, hole));
        holes
    }

    /// Offsets in `range` that are not settled, as far as the group has not come.
    fn unsettled(&self, store: &dyn Store, range: Range<u64>) -> u64 {
        let mut unsettled = range.end - range.start;
        let known = range.start..range.end.min(self.settled_until);
        holes::each(store, self.cursor, known, |stretch| unsettled -= stretch.end - stretch.start);
        unsettled
    }

    /// The log has released `fresh`.
    pub(super) fn note_holes(&mut self, store: &dyn Store, fresh: Range<u64>) {
        let from = fresh.start.max(self.slots.next());
        if from < fresh.end {
            self.holes_ahead += self.unsettled(store, from..fresh.end);
        }
    }

    /// Messages in the log that are not taken and not settled.
    pub(crate) fn untaken(&self, store: &dyn Store) -> u64 {
        let bounds = store.bounds(self.log);
        let behind = bounds.end.saturating_sub(self.slots.next().max(bounds.start));
        behind.saturating_sub(self.settled_ahead + self.holes_ahead)
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
    /// over that were neither settled nor released.
    pub(super) fn skip_to(&mut self, store: &dyn Store, to: u64) -> u64 {
        let next = self.slots.next();
        if to <= next {
            return 0;
        }
        let unsettled = self.unsettled(store, next..to);
        let settled = to - next - unsettled;
        let holes = if self.holes_ahead > 0 { self.holes(store, next, to) } else { 0 };
        self.settled_ahead = self.settled_ahead.saturating_sub(settled);
        self.holes_ahead = self.holes_ahead.saturating_sub(holes);
        self.slots.skip_to(to);
        if self.slots.next() >= self.settled_until {
            self.settled_ahead = 0;
        }
        unsettled - holes.min(unsettled)
    }
}

/// What is settled from `floor` on.
fn stretches(store: &dyn Store, cursor: LogId, floor: u64) -> Vec<Range<u64>> {
    let mut stretches = Vec::new();
    holes::each(store, cursor, floor..u64::MAX, |stretch| stretches.push(stretch));
    stretches
}
