//! Who listens on one subject: a value of its own, kept by the edge until the
//! directory changes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command::{ConnectionId, DestinationId, SubscriptionId};

/// A channel subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subscriber {
    /// Whose.
    pub connection: ConnectionId,
    /// Its number there.
    pub subscription: SubscriptionId,
}

/// A queue or stream to publish to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its number.
    pub id: DestinationId,
    /// The shard that owns it.
    pub shard: u32,
}

/// A share group that gets each message once.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its members in `Resolved::members`, never empty.
    pub(super) members: Range<usize>,
    /// Whose turn it is; common to all publishers.
    pub(super) turn: Arc<AtomicU32>,
}

impl Share {
    /// Place, among [`Resolved::members`], of the member whose turn it is; the
    /// turn moves on.
    #[must_use]
    pub fn next_index(&self) -> usize {
        // Only fairness hangs on the counter, so no order with other memory is
        // needed.
        self.turn.fetch_add(1, Ordering::Relaxed) as usize % self.members.len()
    }
}

/// Who listens on a subject. Filled by
/// [`Directory::resolve`](super::Directory::resolve), again and again.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// Subscriptions that get each message.
    pub subscribers: Vec<Subscriber>,
    /// Share groups, each of which hands a message to one member.
    pub shares: Vec<Share>,
    /// Queues and streams, each once.
    pub destinations: Vec<Target>,
    /// Members of the share groups, group after group.
    pub(super) members: Vec<Subscriber>,
    /// Keys of the share groups that matched, while the shares are collected.
    pub(super) matched_shares: Vec<u32>,
}

impl Resolved {
    /// True when a message would reach nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty() && self.shares.is_empty() && self.destinations.is_empty()
    }

    /// Members of a share group, in turn order.
    #[must_use]
    pub fn members(&self, share: &Share) -> &[Subscriber] {
        &self.members[share.members.clone()]
    }

    /// The member of a share group whose turn it is; the turn moves on. Call it
    /// once per run of messages.
    #[must_use]
    pub fn next_member(&self, share: &Share) -> Subscriber {
        self.members(share)[share.next_index()]
    }

    pub(super) fn clear(&mut self) {
        self.subscribers.clear();
        self.shares.clear();
        self.destinations.clear();
        self.members.clear();
        self.matched_shares.clear();
    }
}
