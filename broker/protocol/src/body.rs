//! Bodies of the control requests: maps with short text keys. A key that is not
//! listed here is refused by name; an absent optional key has the default that
//! its field tells. Enumerations are read by `choice.rs`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::SubscriptionId;

/// Kind of a thing that is created and listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum Kind {
    /// Work shared by competing consumers.
    Queue,
    /// A retained log that can be replayed.
    Stream,
    /// A reader of a stream with a cursor, shared by its consumers.
    Group,
}

/// How safely a message is kept.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", remote = "Self")]
#[repr(u8)]
pub enum Level {
    /// In the memory of the broker.
    #[default]
    Memory = 0,
    /// Written to the operating system, not synced.
    Os = 1,
    /// Synced to disk.
    Disk = 2,
}

/// Order that the operator insists on, whatever a policy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "Self")]
#[repr(u8)]
pub enum Order {
    /// None.
    #[default]
    None = 0,
    /// Messages of one key, one after the other.
    Key = 1,
    /// All messages, one after the other.
    All = 2,
}

/// A place in a stream: `"earliest"`, `"latest"`, `{offset: n}`, `{time_ms: n}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The oldest message kept.
    #[default]
    Earliest,
    /// What comes from now on.
    Latest,
    /// This offset, or the next one kept.
    Offset(u64),
    /// The first message published at or after this moment, ms since the epoch.
    TimeMs(u64),
}

/// Body of hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Versions of the protocol that the client speaks, best first.
    pub version: Vec<u32>,
    /// Name and version of the program, for people.
    pub client: String,
    /// Secret, where the broker asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Body of subscribe: hear a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// Number, free on this connection.
    pub sub: SubscriptionId,
    /// Subjects: `*` stands for one token, `>` at the end for one or more.
    pub pattern: String,
    /// Share group: each message reaches one member of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
}

/// Body of unsubscribe: end a subscription or a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe {
    /// Its number.
    pub sub: SubscriptionId,
}

/// Body of consume: attach to a queue, or to a group of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consume {
    /// Number, free on this connection.
    pub sub: SubscriptionId,
    /// The queue; or else `stream` and `group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The stream's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Deliveries it may receive before it settles one; 0 to only pull.
    #[serde(default)]
    pub credit: u32,
    /// Name for people and policies.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Labels for policies.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String, Value>,
}

/// Positional fields of credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The consumer.
    pub sub: SubscriptionId,
    /// Deliveries to add.
    pub amount: u32,
}

/// Body of pull: a waiting receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// The consumer.
    pub sub: SubscriptionId,
    /// Most deliveries.
    pub messages_max: u32,
    /// Longest wait for them, milliseconds; 0 takes what is there.
    #[serde(default)]
    pub wait_ms: u32,
}

/// Body of create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Create {
    /// A queue.
    Queue(CreateQueue),
    /// A stream.
    Stream(CreateStream),
    /// A group of a stream.
    Group(CreateGroup),
}

/// Settings of a new queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateQueue {
    /// Its name.
    pub name: String,
    /// Patterns of the subjects it keeps; none: its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// Ok if it exists, with whatever settings.
    #[serde(default, skip_serializing_if = "is_false")]
    pub if_absent: bool,
    /// Most messages that wait or are in flight; 0 for no bound.
    #[serde(default)]
    pub messages_max: u64,
    /// Most bytes of them; 0 for no bound.
    #[serde(default)]
    pub bytes_max: u64,
    /// Least level of its messages; absent: the safest that the broker's store
    /// reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Least order of its deliveries.
    #[serde(default)]
    pub order: Order,
}

/// Settings of a new stream. A bound of 0 is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateStream {
    /// Its name.
    pub name: String,
    /// Patterns of the subjects it keeps; none: its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// Ok if it exists, with whatever settings.
    #[serde(default, skip_serializing_if = "is_false")]
    pub if_absent: bool,
    /// Number of partitions, 1 or more; fixed for ever.
    #[serde(default = "one")]
    pub partitions: u16,
    /// Most messages kept per partition.
    #[serde(default)]
    pub messages_max: u64,
    /// Most bytes kept per partition.
    #[serde(default)]
    pub bytes_max: u64,
    /// Longest a message is kept, milliseconds.
    #[serde(default)]
    pub age_ms_max: u64,
    /// Least level of its messages; absent: the safest that the broker's store
    /// reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Of messages with the same key, only the last is kept in the long run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub compact: bool,
    /// How long the last message of a key is kept that has no payload, milliseconds;
    /// absent: 24 hours. Of interest with `compact` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tombstone_ms: Option<u64>,
}

impl Default for CreateStream {
    /// One partition, without a bound.
    fn default() -> Self {
        Self {
            name: String::new(),
            subjects: Vec::new(),
            if_absent: false,
            partitions: one(),
            messages_max: 0,
            bytes_max: 0,
            age_ms_max: 0,
            level: None,
            compact: false,
            tombstone_ms: None,
        }
    }
}

/// Settings of a new group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateGroup {
    /// The stream.
    pub stream: String,
    /// Its name.
    pub name: String,
    /// Ok if it exists, with whatever settings.
    #[serde(default, skip_serializing_if = "is_false")]
    pub if_absent: bool,
    /// Where it starts to read.
    #[serde(default)]
    pub start: Start,
    /// Least order of its deliveries.
    #[serde(default)]
    pub order: Order,
    /// Options for the delivery policy.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

/// Body of alter: what is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Alter {
    /// A queue.
    Queue(AlterQueue),
    /// A stream.
    Stream(AlterStream),
    /// A group of a stream.
    Group(AlterGroup),
}

/// New settings of a queue; see [`CreateQueue`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of CreateQueue")]
pub struct AlterQueue {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// New settings of a stream; see [`CreateStream`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of CreateStream")]
pub struct AlterStream {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tombstone_ms: Option<u64>,
}

/// New settings of a group; see [`CreateGroup`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of CreateGroup")]
pub struct AlterGroup {
    pub stream: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Map<String, Value>>,
}

/// Body of delete and of info: one queue, stream or group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The group's stream; only with kind `group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
}

/// Body of list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only this kind; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Go on behind this: the `next` of an earlier answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Most items; absent: the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_max: Option<u32>,
}

/// Body of read: a range of a stream, without a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// The stream.
    pub stream: String,
    /// The partition.
    #[serde(default)]
    pub partition: u16,
    /// Where to start.
    pub from: Start,
    /// Most messages; absent: the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_max: Option<u32>,
    /// Most bytes, but one message at least; absent: the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u32>,
}

/// Body of seek: move a group's cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seek {
    /// The stream.
    pub stream: String,
    /// The group.
    pub group: String,
    /// One partition; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u16>,
    /// Where to.
    pub to: Start,
}

/// Body of purge: remove what waits in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// The queue.
    pub queue: String,
}

/// Body of policy_status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyStatus {
    /// Only this binding; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
}

/// Body of policy_rollback: go back to the generation before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRollback {
    /// The binding.
    pub binding: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn one() -> u16 {
    1
}
