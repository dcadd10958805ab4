//! Port two: what decides. Delivery policies and deliver-stage filters, as the
//! core sees them; the wasm host implements both, and the core carries one plan
//! of its own for when a policy fails ([`Plan::AT_LEAST_ONCE`]).
//!
//! A policy sends wishes, the core checks them. Events, actions, codes and
//! columns have the numbers of `wit/roles.wit` and `wit/types.wit`.

use std::sync::Arc;

/// Which version of a policy decides: counted per binding, named by content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// Counts the reloads of the binding, from 1; 0 is the built-in plan.
    pub number: u64,
    /// Hex SHA-256 of the component, "" for the built-in plan.
    pub digest: Arc<str>,
}

/// What a binding applies to, and its rank among others that apply as well.
/// The lowest `order` wins, then the binding's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Patterns over queue names; `*` matches any run of characters but `/`.
    pub queues: Vec<String>,
    /// Patterns over `stream/group`.
    pub groups: Vec<String>,
    /// Rank; lower wins.
    pub order: i32,
}

/// Event kinds (`wit/roles.wit`).
pub mod event {
    #![allow(missing_docs, reason = "the table with the meanings is in roles.wit")]
    pub const READY: u8 = 1;
    pub const ACKED: u8 = 2;
    pub const NACKED: u8 = 3;
    pub const EXPIRED: u8 = 4;
    pub const JOINED: u8 = 5;
    pub const LEFT: u8 = 6;
    pub const CREDIT: u8 = 7;
    pub const LEASED: u8 = 8;
    pub const WOKE: u8 = 9;
    pub const TICK: u8 = 10;
    pub const REFUSED: u8 = 11;
    pub const EXTENDED: u8 = 12;
    pub const GONE: u8 = 13;
    pub const REPLAYED: u8 = 14;
}

/// Action kinds (`wit/roles.wit`).
pub mod action {
    #![allow(missing_docs, reason = "the table with the meanings is in roles.wit")]
    pub const DISPATCH: u8 = 1;
    pub const RETRY: u8 = 2;
    pub const DEAD_LETTER: u8 = 3;
    pub const DROP: u8 = 4;
    pub const PARK: u8 = 5;
    pub const EXTEND: u8 = 6;
    pub const WAKE: u8 = 7;
}

/// Why an action was refused (`wit/roles.wit`).
pub mod refusal {
    #![allow(missing_docs, reason = "the table with the meanings is in roles.wit")]
    pub const UNKNOWN_ACTION: u8 = 1;
    pub const NO_MESSAGE: u8 = 2;
    pub const NO_CONSUMER: u8 = 3;
    pub const NO_CREDIT: u8 = 4;
    pub const BREAKS_ORDER: u8 = 5;
    pub const NOT_GRANTED: u8 = 6;
    pub const WRONG_STATE: u8 = 7;
    pub const TOO_MANY: u8 = 8;
}

/// Something that happened, told to a delivery policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields per kind are in roles.wit")]
pub struct Event {
    pub kind: u8,
    pub code: u8,
    pub attempt: u16,
    pub group: u32,
    pub consumer: u32,
    pub value: u32,
    pub message: u64,
}

/// A wish of a delivery policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields per kind are in roles.wit")]
pub struct Action {
    pub kind: u8,
    pub code: u8,
    pub group: u32,
    pub consumer: u32,
    pub value: u32,
    pub message: u64,
}

/// What the broker does by itself for a group; see `plan` in `wit/roles.wit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bit k set: send events of kind k.
    pub interest: u32,
    /// 0 the policy picks, 1 in turn, 2 fewest in flight, 3 by key hash.
    pub chooser: u8,
    /// 0 one consumer of the group, 1 every consumer.
    pub spread: u8,
    /// 0 settled when handed over, 1 settled by the consumer's ack.
    pub ack: u8,
    /// 0 none, 1 per key, 2 the whole group.
    pub order: u8,
    /// After the last attempt: 0 park, 1 dead-letter, 2 drop.
    pub exhausted: u8,
    /// Length of a lease, ms.
    pub lease_ms: u32,
    /// Tries per message, 0 for no end.
    pub attempts: u32,
    /// Delay before the second try, ms.
    pub retry_first_ms: u32,
    /// Longest delay between tries, ms.
    pub retry_max_ms: u32,
    /// Growth of the delay in percent: 200 doubles it.
    pub retry_growth: u32,
    /// Ready messages taken from the log at once.
    pub window: u32,
    /// In flight per consumer; the smaller of this and its credit counts.
    pub per_consumer: u32,
    /// Period of the tick event, ms; 0 for none.
    pub tick_ms: u32,
    /// Longest time a ready message may stay undecided, ms (setting 1).
    pub undecided_ms_max: u32,
    /// Bytes in flight per consumer (setting 2); 0 for the broker's limit.
    pub bytes_per_consumer: u32,
}

impl Plan {
    /// The core's own plan, for groups whose policy failed: data, not code. No
    /// power is needed: what cannot be delivered is parked.
    pub const AT_LEAST_ONCE: Self = Self {
        interest: 0,
        chooser: 1,
        spread: 0,
        ack: 1,
        order: 0,
        exhausted: 0,
        lease_ms: 30_000,
        attempts: 0,
        retry_first_ms: 1_000,
        retry_max_ms: 60_000,
        retry_growth: 200,
        window: 10_000,
        per_consumer: 0,
        tick_ms: 0,
        undecided_ms_max: 0,
        bytes_per_consumer: 0,
    };
}

/// What the operator lets a policy do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Powers {
    /// Let a message end without having been delivered.
    pub drop: bool,
    /// Move a message to the dead-letter queue.
    pub dead_letter: bool,
    /// Change payload, key or headers.
    pub rewrite: bool,
    /// Send to subjects outside the binding's own scope.
    pub retarget: bool,
    /// Keep messages in memory only.
    pub transient: bool,
}

/// A group, as told to a policy. `id` is unique in the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo<'a> {
    /// Number used in events and actions.
    pub id: u32,
    /// `queue` or `stream/group`.
    pub name: &'a str,
    /// What the group reads: the name of its queue or stream.
    pub subject: &'a str,
    /// JSON text or "".
    pub options: &'a str,
}

/// A consumer, as told to a policy. `id` is unique in the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining<'a> {
    /// Its group.
    pub group: u32,
    /// Number used in events and actions.
    pub id: u32,
    /// Its name.
    pub name: &'a str,
    /// JSON text or "".
    pub labels: &'a str,
}

/// A message that a policy is asked about.
#[derive(Clone, Copy, Debug)]
pub struct ReadyMessage<'a> {
    /// Its encoded bytes.
    pub bytes: &'a [u8],
    /// Offset in its partition.
    pub offset: u64,
    /// When the broker took it, ms since the epoch.
    pub time_ms: u64,
}

/// How a call of a policy failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The policy answered "no", with a sentence. It is fit for further calls.
    Refused(String),
    /// Trap, deadline, memory or a malformed answer. The host has put a fresh
    /// instance in its place: open the groups again and replay.
    Restarted(String),
    /// It failed too often: use the built-in plan.
    Broken(String),
}

/// A delivery policy's instance of one shard. Calls never wait; each is bounded
/// in time and memory by the host.
pub trait DeliveryPolicy: Send {
    /// Which version this is.
    fn generation(&self) -> Generation;

    /// What the operator granted.
    fn powers(&self) -> Powers;

    /// Whether it looks at messages. Else the events of kind `READY` come without them,
    /// and none is read back for it.
    fn reads_messages(&self) -> bool;

    /// How these subjects are kept: 0 memory, 1 logged, 2 logged and synced, 3 as the
    /// operator has chosen for the queue or stream.
    ///
    /// # Errors
    /// See [`Failure`].
    fn classify(&mut self, now_ms: u64, subjects: &[&str]) -> Result<Vec<u8>, Failure>;

    /// A group starts, after a reload too.
    ///
    /// # Errors
    /// See [`Failure`].
    fn open(&mut self, now_ms: u64, group: &GroupInfo<'_>) -> Result<Plan, Failure>;

    /// A consumer wants in.
    ///
    /// # Errors
    /// `Refused` turns it away.
    fn join(&mut self, now_ms: u64, consumer: &Joining<'_>) -> Result<(), Failure>;

    /// A group is gone.
    fn close(&mut self, now_ms: u64, group: u32);

    /// Events in, actions out. `ready` holds the messages of the events of kind
    /// `READY`, in their order, where the policy reads them. `actions` is appended to.
    ///
    /// # Errors
    /// See [`Failure`]; then no action of this call counts.
    fn step(
        &mut self,
        now_ms: u64,
        events: &[Event],
        ready: &[ReadyMessage<'_>],
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure>;

    /// State for the next generation: format and bytes. The last call of all.
    fn save(&mut self, now_ms: u64) -> Option<(u32, Vec<u8>)>;

    /// State of an earlier generation. A failure is not fatal.
    ///
    /// # Errors
    /// See [`Failure`].
    fn load(&mut self, now_ms: u64, version: u32, state: &[u8]) -> Result<(), Failure>;
}

/// What a deliver-stage filter says of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver as it is.
    Keep,
    /// Deliver these bytes instead (an encoded message, same subject).
    Rewrite(Vec<u8>),
    /// Settle undelivered.
    Drop,
    /// To the dead-letter queue, with this reason.
    Divert(String),
    /// Ask again later: the filter failed and its rule is to hold.
    Hold,
}

/// A deliver-stage filter's instance of one shard. The host applies the failure
/// rule, so there is always an answer.
pub trait DeliveryFilter: Send {
    /// Which version this is.
    fn generation(&self) -> Generation;

    /// One verdict per message, appended to `verdicts`.
    fn filter(&mut self, now_ms: u64, messages: &[ReadyMessage<'_>], verdicts: &mut Vec<Verdict>);
}
