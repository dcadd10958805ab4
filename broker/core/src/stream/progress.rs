//! How far compaction is with one partition, and when it looks at it again.
//!
//! Owned by `Stream`. Invariant: below `done_until` no message that is kept supersedes
//! another, but for what could not be released and comes again with the next process.

use super::compaction::{Budget, Pass};
use super::holes::Holes;
use super::volatile::Volatile;
use crate::env::Now;
use crate::limits;
use crate::store::{Bounds, LogId, Store};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) holes: Holes,
    pub(crate) volatile: Volatile,
    pub(crate) done_until: u64,
    /// No pass begins before, steady ms.
    not_before_ms: u64,
    /// A pass begins then at the latest when there is anything new, steady ms.
    latest_ms: u64,
    /// When old tombstones are looked for, steady ms; `u64::MAX` for never.
    tombstones_ms: u64,
    /// When the shard looks here, steady ms; `u64::MAX` for never.
    pub(crate) armed_ms: u64,
    /// It stands in line for a pass, or has one.
    pub(crate) waits: bool,
    /// Messages released.
    pub(crate) released: u64,
    /// Passes that stopped because there were too many gaps.
    pub(crate) stops: u64,
}

impl Progress {
    /// Of a log as it is found.
    pub(crate) fn of(store: &dyn Store, log: LogId) -> Self {
        Self {
            holes: Holes::of(store, log),
            volatile: Volatile::default(),
            done_until: 0,
            not_before_ms: 0,
            latest_ms: 0,
            tombstones_ms: u64::MAX,
            armed_ms: u64::MAX,
            waits: false,
            released: 0,
            stops: 0,
        }
    }

    /// Messages kept.
    pub(crate) fn kept(&self, bounds: Bounds) -> u64 {
        (bounds.end - bounds.start).saturating_sub(self.holes.count)
    }

    /// The settings have changed: everything is looked at anew.
    pub(crate) fn forget(&mut self) {
        self.done_until = 0;
        (self.not_before_ms, self.latest_ms) = (0, 0);
        self.tombstones_ms = u64::MAX;
    }

    /// When a pass may begin, steady ms; `None` when there is no need of one.
    pub(crate) fn due_ms(&self, bounds: Bounds) -> Option<u64> {
        let behind = bounds.stable.saturating_sub(self.done_until.max(bounds.start));
        let mut due_ms = self.tombstones_ms;
        if behind > 0 {
            due_ms = due_ms.min(self.latest_ms);
        }
        // What was read once is read again only with as much that is new.
        if behind > 0 && behind >= self.kept(bounds).div_ceil(2) {
            due_ms = 0;
        }
        (due_ms != u64::MAX).then(|| due_ms.max(self.not_before_ms))
    }

    /// Whether old tombstones are to be looked for.
    pub(crate) fn wants_tombstones(&self, now_ms: u64) -> bool {
        self.tombstones_ms <= now_ms
    }

    /// A pass begins.
    pub(crate) fn begin(&mut self, now_ms: u64, budget: &Budget) {
        self.not_before_ms = now_ms + budget.every_ms;
        self.latest_ms = now_ms + limits::COMPACTION_LAG_MS;
    }

    /// It has come to its end.
    pub(crate) fn end(&mut self, now: Now, budget: &Budget, pass: &Pass) {
        self.done_until = pass.task.end;
        if pass.is_cut() {
            self.latest_ms = 0;
        }
        if !pass.sweeps() {
            return;
        }
        self.tombstones_ms = match pass.tombstone_due_ms {
            u64::MAX => u64::MAX,
            due_ms => {
                let rest_ms =
                    budget.every_ms.max(pass.task.tombstone_ms / limits::TOMBSTONE_PASSES);
                now.steady_ms + due_ms.saturating_sub(now.wall_ms).max(rest_ms)
            }
        };
    }

    /// It has stopped: another gap would be one too many.
    pub(crate) fn stop(&mut self, now_ms: u64) {
        self.stops += 1;
        self.not_before_ms = now_ms + limits::COMPACTION_FULL_MS;
    }
}
