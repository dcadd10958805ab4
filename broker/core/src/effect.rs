//! Everything a shard can want done. Effects come out grouped by turn, in order;
//! the edge hands them to connections.

use bytes::Bytes;

use crate::command::{ConnectionId, Level, ReceiptId, RequestId, SubscriptionId};
use crate::policy::Generation;
use crate::rejection::Rejection;

/// Neighbouring messages for one consumer that share their facts. Message `k` of
/// the run has delivery tag `tag + k` and offset `offset + k`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Delivery tag of the first, from 1; 0 in what needs no settlement.
    pub tag: u64,
    /// Partition, 0 for a queue.
    pub partition: u16,
    /// Offset of the first in its partition or queue.
    pub offset: u64,
    /// When the broker took them, ms since the epoch.
    pub time_ms: u64,
    /// How often they were delivered before, plus one.
    pub attempt: u16,
    /// Number of messages.
    pub count: u32,
    /// The messages as their publisher encoded them.
    pub bytes: Bytes,
}

/// A consumer, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its number there.
    pub subscription: SubscriptionId,
    /// Its name.
    pub name: String,
    /// Deliveries it may still receive.
    pub credit: u32,
    /// Deliveries it holds.
    pub in_flight: u32,
}

/// A group (or a queue's only group), for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Its name, "" for a queue.
    pub name: String,
    /// Name of the delivery binding that decides, or "built-in".
    pub binding: String,
    /// Which generation of it.
    pub generation: Generation,
    /// Messages behind: not yet settled, per partition summed.
    pub lag: u64,
    /// Waiting for a consumer, now; also those that wait for their time and that
    /// nobody had a reason to look at yet.
    pub ready: u64,
    /// With a consumer.
    pub in_flight: u64,
    /// Known to wait for their time: the others are looked at when consumers come.
    pub delayed: u64,
    /// Held until an operator acts.
    pub parked: u64,
    /// Next offset to be settled, per partition.
    pub cursors: Vec<u64>,
    /// Handed to consumers, redeliveries included.
    pub delivered: u64,
    /// Handed to consumers again.
    pub redelivered: u64,
    /// Settled by an ack (or by delivery, where the plan says so).
    pub acked: u64,
    /// Given back.
    pub nacked: u64,
    /// Leases that ran out.
    pub expired: u64,
    /// Moved to the dead-letter queue.
    pub dead_lettered: u64,
    /// Ended undelivered by a policy with the power to.
    pub dropped: u64,
    /// Wishes of the policy that were refused.
    pub refused_actions: u64,
    /// Its consumers.
    pub consumers: Vec<ConsumerInfo>,
}

/// A queue or stream, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Name.
    pub name: String,
    /// Messages kept.
    pub messages: u64,
    /// Bytes kept.
    pub bytes: u64,
    /// Messages kept, per partition of a stream.
    pub kept: Vec<u64>,
    /// First offset kept, per partition.
    pub starts: Vec<u64>,
    /// One past the last offset, per partition.
    pub ends: Vec<u64>,
    /// Messages ever taken.
    pub published: u64,
    /// Publishes refused, messages.
    pub refused: u64,
    /// Removed by retention or purge.
    pub removed: u64,
    /// Removed because a later message has their key, or as old tombstones.
    pub compacted: u64,
    /// Compaction passes that stopped because a partition had too many gaps.
    pub compaction_stops: u64,
    /// The groups; one for a queue.
    pub groups: Vec<GroupStats>,
}

/// Answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// So many were affected, so many were not known.
    Count {
        /// Affected.
        done: u64,
        /// Not known any more: settled before, or expired.
        unknown: u64,
    },
    /// A range of a stream.
    Records {
        /// The messages.
        runs: Vec<Run>,
        /// Where to go on.
        next: u64,
        /// First offset kept.
        start: u64,
        /// One past the last offset.
        end: u64,
    },
    /// No: these messages of a stream's partition are lost.
    Lost {
        /// Offset of the first.
        from: u64,
        /// One past the last: where to go on.
        to: u64,
    },
    /// Figures.
    Stats(Box<Stats>),
    /// No.
    Rejected(Rejection),
}

/// What fits into a bounded queue; `u64::MAX` where there is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Messages.
    pub messages: u64,
    /// Bytes of messages.
    pub bytes: u64,
}

/// Something that must now happen outside.
#[derive(Debug)]
pub enum Effect {
    /// Outcome of a publish, for the rows named (empty: rows `0..count`).
    Published {
        /// Whose.
        connection: ConnectionId,
        /// Where it is collected.
        receipt: ReceiptId,
        /// Number of messages.
        count: u32,
        /// Their rows in the publisher's request; empty means `0..count`.
        rows: Vec<u32>,
        /// The level reached, or why not.
        outcome: Result<Level, Rejection>,
    },
    /// Hand messages to a consumer.
    Deliver {
        /// Whose.
        connection: ConnectionId,
        /// Which of its consumers.
        subscription: SubscriptionId,
        /// The messages.
        runs: Vec<Run>,
    },
    /// Answer a request.
    Reply {
        /// Whose.
        connection: ConnectionId,
        /// Which.
        request: RequestId,
        /// With what.
        reply: Reply,
    },
    /// Messages of a consumer's group are damaged and were passed over. Told to each
    /// consumer that is attached.
    Lost {
        /// Whose.
        connection: ConnectionId,
        /// Which of its consumers.
        subscription: SubscriptionId,
        /// Partition, 0 for a queue.
        partition: u16,
        /// Offset of the first.
        from: u64,
        /// One past the last.
        to: u64,
        /// How many of those in between nobody had settled.
        count: u64,
    },
    /// A consumer was ended by the broker.
    Ended {
        /// Whose.
        connection: ConnectionId,
        /// Which.
        subscription: SubscriptionId,
        /// Why.
        reason: Rejection,
    },
    /// A group makes a dead-letter queue it needs, named `<queue>/dead`: the
    /// directory must learn of it. It exists in this shard already.
    QueueMade {
        /// Its name.
        name: String,
        /// Its number, from the range the directory gave this shard.
        id: crate::command::DestinationId,
    },
    /// A bounded queue is or was pressed: it has refused messages. Told at the end of
    /// the turns in which something is published to it or leaves it, of some queues if
    /// there are very many.
    Pressed {
        /// Which.
        queue: crate::command::DestinationId,
        /// What fits now; `None`: it is pressed no more.
        free: Option<Free>,
    },
    /// A delivery policy failed for good in this shard; the built-in plan serves
    /// its groups until the edge installs another generation.
    PolicyFailed {
        /// The binding.
        binding: String,
        /// The generation that failed.
        generation: Generation,
        /// One sentence.
        reason: String,
    },
}
