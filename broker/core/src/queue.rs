//! A queue: one log, and one group that settles its messages.
//!
//! Owned by the shard. Invariant: what the queue counts as kept is what its
//! group has not settled, taken or not.

use crate::command::{ConnectionId, Level, QueueConfig, ReceiptId};
use crate::group::{Group, GroupId};
use crate::store::{LogId, Store};

/// A publish that waits for the store to be as safe as promised.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    /// One past its last message.
    pub(crate) end: u64,
    pub(crate) connection: ConnectionId,
    pub(crate) receipt: ReceiptId,
    pub(crate) count: u32,
    pub(crate) rows: Vec<u32>,
    pub(crate) level: Level,
}

/// A log as its owner sees it: what was promised about its end.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) log: LogId,
    pub(crate) receipts: std::collections::VecDeque<Receipt>,
    /// Stable position that the groups know of.
    pub(crate) stable: u64,
}

impl Tail {
    pub(crate) fn new(log: LogId, store: &dyn Store) -> Self {
        Self { log, receipts: std::collections::VecDeque::new(), stable: store.bounds(log).stable }
    }

    /// How safely what the log holds is kept, when its owner wants `level`: what
    /// an earlier process left may be as safe as the store can make it.
    pub(crate) fn level_kept(&self, store: &dyn Store, level: Level) -> Level {
        let bounds = store.bounds(self.log);
        if bounds.end > bounds.start { level.max(store.level_max()) } else { level }
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) config: QueueConfig,
    pub(crate) tail: Tail,
    pub(crate) group: GroupId,
    /// Bytes kept.
    pub(crate) bytes: u64,
    pub(crate) published: u64,
    pub(crate) refused: u64,
    pub(crate) removed: u64,
}

impl Queue {
    /// Messages kept: not taken by the group, or taken and not settled.
    pub(crate) fn messages(&self, group: &Group, store: &dyn Store) -> u64 {
        group.untaken(store) + group.live() as u64
    }

    /// Brings the bytes kept up to date with what the group has settled.
    pub(crate) fn count_freed(&mut self, group: &mut Group) {
        let freed = std::mem::take(&mut group.freed_bytes);
        self.bytes = self.bytes.saturating_sub(freed);
        self.removed += std::mem::take(&mut group.lost);
    }

    /// How many messages of these lengths fit, given what is kept.
    pub(crate) fn fitting(&self, messages: u64, lengths: impl Iterator<Item = usize>) -> usize {
        let places = match self.config.messages_max {
            0 => u64::MAX,
            most => most.saturating_sub(messages),
        };
        let mut room = match self.config.bytes_max {
            0 => u64::MAX,
            most => most.saturating_sub(self.bytes),
        };
        let mut fitting = 0;
        for length in lengths {
            if fitting == places || room < length as u64 {
                break;
            }
            room -= length as u64;
            fitting += 1;
        }
        fitting as usize
    }
}
