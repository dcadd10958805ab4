//! A queue: one log, and one group that settles its messages.
//!
//! Owned by the shard. Invariant: what the queue counts as kept is what its
//! group has not settled, taken or not.

use std::sync::Arc;

use crate::command::{Level, QueueConfig};
use crate::effect::Free;
use crate::group::{Group, GroupId};
use crate::store::{LogId, Store};

/// How safely what a log holds is kept, when its owner wants `level`: what an
/// earlier process left may be as safe as the store can make it.
pub(crate) fn level_kept(store: &dyn Store, log: LogId, level: Level) -> Level {
    let bounds = store.bounds(log);
    if bounds.end > bounds.start { level.max(store.level_max()) } else { level }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: Arc<str>,
    pub(crate) config: QueueConfig,
    pub(crate) log: LogId,
    pub(crate) group: GroupId,
    /// Bytes kept, or about as many: see `is_estimated`.
    pub(crate) bytes: u64,
    /// A start found messages, or a purge may have passed over some, whose lengths nobody
    /// knows, so that `bytes` is what the store makes of it, until nothing is left that the
    /// group has not taken.
    pub(crate) is_estimated: bool,
    pub(crate) published: u64,
    pub(crate) refused: u64,
    /// It has refused messages, and the edge is told what fits.
    pub(crate) is_pressed: bool,
    /// Pressed, and something was published to it since the edge was told.
    pub(crate) is_touched: bool,
    pub(crate) removed: u64,
}

impl Queue {
    /// Messages kept: not taken by the group, or taken and not settled.
    pub(crate) fn messages(&self, group: &Group, store: &dyn Store) -> u64 {
        group.untaken(store) + group.live() as u64
    }

    /// Brings the bytes kept up to date with what the group has settled.
    pub(crate) fn count_freed(&mut self, group: &mut Group, store: &dyn Store) {
        let freed = std::mem::take(&mut group.freed_bytes);
        self.bytes = self.bytes.saturating_sub(freed);
        // The group knows the length of what it has taken, and nothing else is left.
        if self.is_estimated && group.untaken(store) == 0 {
            self.bytes = group.live_bytes();
            self.is_estimated = false;
        }
        self.removed += group.lost.take_count();
    }

    /// Brings the bytes kept up to date with a purge of which the store has been told.
    /// `passed`: messages of it that the group had not taken. How long those were only the
    /// store knows, and only about; the group knows exactly how many bytes it holds.
    pub(crate) fn count_purged(&mut self, group: &mut Group, store: &dyn Store, passed: u64) {
        self.is_estimated |= passed > 0;
        self.count_freed(group, store);
        if passed > 0 {
            self.bytes = self.bytes.min(store.bounds(self.log).bytes).max(group.live_bytes());
        }
    }

    /// What fits, given how many messages are kept.
    pub(crate) fn free(&self, messages: u64) -> Free {
        let free = |most: u64, kept: u64| match most {
            0 => u64::MAX,
            most => most.saturating_sub(kept),
        };
        Free {
            messages: free(self.config.messages_max, messages),
            bytes: free(self.config.bytes_max, self.bytes),
        }
    }

    /// Whether half of what there may be is free: what was pressed is so no more.
    pub(crate) fn is_eased(&self, free: Free) -> bool {
        free.messages >= self.config.messages_max.div_ceil(2)
            && free.bytes >= self.config.bytes_max.div_ceil(2)
    }

    /// How many messages of these lengths fit, given what is kept.
    pub(crate) fn fitting(&self, messages: u64, lengths: impl Iterator<Item = usize>) -> usize {
        let Free { messages: places, bytes: mut room } = self.free(messages);
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
