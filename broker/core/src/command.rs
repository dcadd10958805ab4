//! Everything that can be asked of a shard.
//!
//! A command is a value: whoever sends it does not wait. What comes of it leaves
//! the shard as an [`Effect`](crate::effect::Effect).

use bytes::Bytes;
use weir_message::Batch;

use crate::limits;
use crate::policy::{DeliveryFilter, DeliveryPolicy, Scope};

/// A connection, unique in the life of the process; 0 is the broker itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A subscription or consumer of one connection, numbered by the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u32);

/// A request of one connection, numbered by the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u32);

/// A queue or stream, numbered by the directory; never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId(pub u32);

/// A slot of one connection that collects the outcomes of one publish request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiptId(pub u32);

/// How safely a message is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// In the memory of the process.
    #[default]
    Memory = 0,
    /// Written to the operating system, not synced.
    Os = 1,
    /// Synced to disk.
    Disk = 2,
}

/// How a queue is kept and bounded. 0 means no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueConfig {
    /// Most messages that wait or are in flight.
    pub messages_max: u64,
    /// Most bytes of them.
    pub bytes_max: u64,
    /// What the operator insists on, whatever a policy says.
    pub level: Level,
    /// Order the operator insists on: 0 none, 1 per key, 2 the whole queue.
    pub order: u8,
}

/// How a stream is kept. 0 means no bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// Number of partitions, 1 or more; fixed at creation.
    pub partitions: u16,
    /// Most messages kept per partition.
    pub messages_max: u64,
    /// Most bytes kept per partition.
    pub bytes_max: u64,
    /// Longest a message is kept, milliseconds.
    pub age_ms_max: u64,
    /// What the operator insists on.
    pub level: Level,
    /// Of messages with the same key only the last is kept, in the long run.
    pub compact: bool,
    /// How long the last message of a key is kept that has no payload, milliseconds.
    pub tombstone_ms: u64,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            messages_max: 0,
            bytes_max: 0,
            age_ms_max: 0,
            level: Level::default(),
            compact: false,
            tombstone_ms: limits::TOMBSTONE_MS,
        }
    }
}

/// Where a group starts to read, or is moved to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The oldest message kept.
    #[default]
    Earliest,
    /// What comes from now on.
    Latest,
    /// This offset of each partition, or the next one kept.
    Offset(u64),
    /// The first message published at or after this moment, ms since the epoch.
    Time(u64),
}

/// How a stream's group reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupConfig {
    /// Where it starts when it is made.
    pub start: Start,
    /// Order the operator insists on: 0 none, 1 per key, 2 the whole group.
    pub order: u8,
    /// Options for the delivery policy, JSON text or "".
    pub options: String,
}

/// What a consumer attaches to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A queue.
    Queue(DestinationId),
    /// A group of a stream, by name.
    Group(DestinationId, String),
}

/// What a consumer says about a run of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Done.
    Ack,
    /// Give back; ready again after `delay_ms`, or when the policy says so.
    Nack {
        /// Delay asked for, ms.
        delay_ms: u32,
        /// The consumer's reason, handed to the policy.
        code: u8,
    },
    /// Keep longer: the lease runs for `by_ms` from now.
    Extend {
        /// New length of the lease, ms; 0 for the plan's.
        by_ms: u32,
    },
    /// Never again: to the dead-letter queue at once.
    Reject {
        /// The consumer's reason, kept with the message.
        code: u8,
    },
}

/// Delivery tags `first..=last` of one consumer, all settled alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// First delivery tag.
    pub first: u64,
    /// Last delivery tag.
    pub last: u64,
    /// What is said about them.
    pub verb: Verb,
}

/// Rows of messages in a publisher's request; a few of them need no allocation.
pub type Rows = smallvec::SmallVec<[u32; 4]>;

/// One batch of messages for one queue or stream.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where to.
    pub destination: DestinationId,
    /// Who published.
    pub connection: ConnectionId,
    /// Where the outcome goes; `None` when the publisher wants no word.
    pub receipt: Option<ReceiptId>,
    /// The messages.
    pub batch: Batch,
    /// Row of each message in the publisher's request; empty means `0..len`.
    pub rows: Rows,
    /// Milliseconds before a queue's consumers see them.
    pub delay_ms: u32,
}

/// A message that goes to its queue or stream alone.
#[derive(Clone, Debug)]
pub struct Lone {
    /// Where to.
    pub destination: DestinationId,
    /// Its row in the publisher's request.
    pub row: u32,
    /// As its publisher encoded it.
    pub message: Bytes,
}

/// Messages of one read that go to many queues and streams, one to each. A [`Publish`] for
/// each would be four times as long, and another core wrote it.
#[derive(Clone, Debug)]
pub struct Spread {
    /// Who published.
    pub connection: ConnectionId,
    /// Where the outcomes go; `None` when the publisher wants no word.
    pub receipt: Option<ReceiptId>,
    /// The messages, in order.
    pub messages: Vec<Lone>,
}

impl Spread {
    /// The same, one by one.
    pub fn publishes(self) -> impl Iterator<Item = Publish> {
        let Self { connection, receipt, messages } = self;
        messages.into_iter().map(move |Lone { destination, row, message }| Publish {
            destination,
            connection,
            receipt,
            batch: Batch::of_one(message),
            rows: Rows::from_slice(&[row]),
            delay_ms: 0,
        })
    }
}

/// What can be asked of a shard.
pub enum Command {
    /// Keep messages.
    Publish(Publish),
    /// Keep messages, each in another place.
    Spread(Spread),
    /// Count messages of a queue that the edge has refused, because they would not fit.
    CountRefused {
        /// Its number.
        id: DestinationId,
        /// How many.
        messages: u64,
    },
    /// Make a queue; the directory has given it the number.
    CreateQueue {
        /// Its number.
        id: DestinationId,
        /// Its name, `[a-z0-9._/-]+`.
        name: String,
        /// How it is kept.
        config: QueueConfig,
    },
    /// Make a stream.
    CreateStream {
        /// Its number.
        id: DestinationId,
        /// Its name.
        name: String,
        /// How it is kept.
        config: StreamConfig,
    },
    /// Change a queue; messages, leases and consumers stay.
    AlterQueue {
        /// Its number.
        id: DestinationId,
        /// How it is kept from now on.
        config: QueueConfig,
    },
    /// Change a stream; `partitions` stays as it is.
    AlterStream {
        /// Its number.
        id: DestinationId,
        /// How it is kept from now on.
        config: StreamConfig,
    },
    /// Make a group of a stream, or change its order and options.
    PutGroup {
        /// The stream.
        stream: DestinationId,
        /// The group's name.
        group: String,
        /// How it reads.
        config: GroupConfig,
    },
    /// Remove a group; its consumers are told.
    DeleteGroup {
        /// The stream.
        stream: DestinationId,
        /// The group's name.
        group: String,
    },
    /// Remove a queue or stream with all it holds; its consumers are told.
    Delete {
        /// Its number.
        id: DestinationId,
    },
    /// A consumer attaches. Answered with `Reply::Done` or a rejection.
    Attach {
        /// Who.
        connection: ConnectionId,
        /// The consumer's number.
        subscription: SubscriptionId,
        /// Request to answer.
        request: RequestId,
        /// What to.
        source: Source,
        /// Deliveries it may receive before it settles one.
        credit: u32,
        /// Name for people and policies, may be "".
        name: String,
        /// Labels for policies, JSON text or "".
        labels: String,
    },
    /// A consumer leaves and says so. What it holds is ready again at once.
    Detach {
        /// Who.
        connection: ConnectionId,
        /// The consumer's number.
        subscription: SubscriptionId,
        /// Request to answer.
        request: RequestId,
    },
    /// More credit.
    Credit {
        /// Who.
        connection: ConnectionId,
        /// The consumer's number.
        subscription: SubscriptionId,
        /// Deliveries to add.
        amount: u32,
    },
    /// Waiting receive: up to `max` deliveries within `wait_ms`, on top of the
    /// consumer's own credit. Answered when either is reached.
    Pull {
        /// Who.
        connection: ConnectionId,
        /// The consumer's number.
        subscription: SubscriptionId,
        /// Request to answer.
        request: RequestId,
        /// Most deliveries.
        max: u32,
        /// Longest wait, ms.
        wait_ms: u32,
    },
    /// Settle deliveries. Answered only when `request` is there; with one and no
    /// settlements it asks for those before, since it last asked, that had none.
    Settle {
        /// Who.
        connection: ConnectionId,
        /// The consumer's number.
        subscription: SubscriptionId,
        /// Request to answer.
        request: Option<RequestId>,
        /// What is settled.
        settlements: Vec<Settlement>,
    },
    /// Move a group's cursor. What is in flight is forgotten, late acks are void.
    Seek {
        /// Who asks.
        connection: ConnectionId,
        /// Request to answer.
        request: RequestId,
        /// The stream.
        stream: DestinationId,
        /// The group.
        group: String,
        /// One partition, or all.
        partition: Option<u16>,
        /// Where to.
        to: Start,
    },
    /// Read a range of a stream without a group.
    Read {
        /// Who asks.
        connection: ConnectionId,
        /// Request to answer.
        request: RequestId,
        /// The stream.
        stream: DestinationId,
        /// The partition.
        partition: u16,
        /// Where to start.
        from: Start,
        /// Most messages.
        messages_max: u32,
        /// Most bytes; at least one message comes whatever its size.
        bytes_max: u32,
    },
    /// Figures of one queue or stream with its groups and consumers.
    Info {
        /// Who asks.
        connection: ConnectionId,
        /// Request to answer.
        request: RequestId,
        /// Which.
        id: DestinationId,
    },
    /// Remove every waiting message of a queue; what is in flight stays.
    Purge {
        /// Who asks.
        connection: ConnectionId,
        /// Request to answer.
        request: RequestId,
        /// Which queue.
        id: DestinationId,
    },
    /// Too much waits to be sent to a connection: its consumers get nothing until
    /// `Resume`.
    Pause {
        /// Which.
        connection: ConnectionId,
    },
    /// What waited for a connection has been sent: its consumers get more.
    Resume {
        /// Which.
        connection: ConnectionId,
    },
    /// A connection is gone; its leases end now, with event code "lost".
    Disconnect {
        /// Which.
        connection: ConnectionId,
    },
    /// A delivery binding's new generation, or its end.
    BindDelivery {
        /// The binding's name.
        binding: String,
        /// What it applies to, and its rank.
        scope: Scope,
        /// This shard's own instance; `None` removes the binding.
        policy: Option<Box<dyn DeliveryPolicy>>,
    },
    /// A deliver-stage filter binding's new generation, or its end.
    BindFilter {
        /// The binding's name.
        binding: String,
        /// What it applies to, and its rank.
        scope: Scope,
        /// This shard's own instance; `None` removes the binding.
        filter: Option<Box<dyn DeliveryFilter>>,
    },
}
