//! Bodies of ok answers. Readers ignore keys that they do not know, so that a
//! broker may tell more than an older client asks for; numbers count since the
//! broker's start unless said otherwise.

use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{Kind, Level, Order};

/// Answer of ping, subscribe, create and whatever has nothing to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Answer of hello.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HelloAnswer {
    /// Version of the protocol from here on.
    pub version: u32,
    /// Name and version of the broker, for people.
    pub server: String,
    /// Number of the connection, as in the consumers of an info answer.
    pub connection: u64,
    /// Limits of this connection.
    pub limits: HelloLimits,
    /// Levels that can be asked for, lowest first. A newer broker's that are not known here
    /// are left out.
    #[serde(deserialize_with = "known_levels")]
    pub levels: Vec<Level>,
}

fn known_levels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Level>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let known = |text: String| {
        let text: serde::de::value::StringDeserializer<D::Error> = text.into_deserializer();
        Deserialize::deserialize(text).ok()
    };
    Ok(texts.into_iter().filter_map(known).collect())
}

/// Limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HelloLimits {
    /// Longest frame the broker takes, bytes after the prefix.
    pub frame_bytes: u32,
    /// Longest frame the broker sends, bytes after the prefix.
    pub answer_bytes: u32,
    /// Most messages of one publish frame.
    pub batch_messages: u32,
    /// Most subscriptions and consumers.
    pub subscriptions: u32,
    /// Requests without an answer; beyond it the broker reads no further.
    pub requests_in_flight: u32,
    /// Most credit of one consumer, deliveries.
    pub credit: u32,
}

impl Default for HelloLimits {
    fn default() -> Self {
        use crate::limits;
        Self {
            frame_bytes: limits::FRAME_BYTES_MAX,
            answer_bytes: limits::ANSWER_BYTES_MAX,
            batch_messages: limits::PUBLISH_MESSAGES_MAX as u32,
            subscriptions: limits::SUBSCRIPTIONS_MAX,
            requests_in_flight: limits::REQUESTS_IN_FLIGHT_MAX,
            credit: limits::CREDIT_MAX,
        }
    }
}

/// Answer of settle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettleCount {
    /// Deliveries settled.
    pub done: u64,
    /// Deliveries not known any more: settled before, expired, or never made.
    pub unknown: u64,
}

/// Answer of pull. The deliveries came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveredCount {
    /// How many.
    pub delivered: u64,
}

/// Answer of purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DoneCount {
    /// Messages removed.
    pub done: u64,
}

/// Answer of list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListAnswer {
    /// What there is, by name.
    pub items: Vec<ListItem>,
    /// There is more: ask again with this as `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One queue, stream or group with its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListItem {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// A group's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Patterns of the subjects it keeps; none for a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// A stream's partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u16>,
    /// Messages kept, where the broker knows without asking around.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Bytes kept, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Answer of info for a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueInfo {
    /// Name.
    pub name: String,
    /// Patterns of the subjects it keeps.
    pub subjects: Vec<String>,
    /// Most messages; 0 for no bound.
    pub messages_max: u64,
    /// Most bytes; 0 for no bound.
    pub bytes_max: u64,
    /// Least level.
    pub level: Level,
    /// Least order.
    pub order: Order,
    /// Messages kept now.
    pub messages: u64,
    /// Bytes kept now.
    pub bytes: u64,
    /// Messages ever taken.
    pub published: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages removed by purge.
    pub removed: u64,
    /// Its deliveries and consumers.
    pub delivery: GroupFigures,
}

/// Answer of info for a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamInfo {
    /// Name.
    pub name: String,
    /// Patterns of the subjects it keeps.
    pub subjects: Vec<String>,
    /// Number of partitions.
    pub partitions: u16,
    /// Most messages per partition; 0 for no bound.
    pub messages_max: u64,
    /// Most bytes per partition; 0 for no bound.
    pub bytes_max: u64,
    /// Longest a message is kept, ms; 0 for no bound.
    pub age_ms_max: u64,
    /// Least level.
    pub level: Level,
    /// Of messages with the same key, only the last is kept in the long run.
    pub compact: bool,
    /// How long the last message of a key is kept that has no payload, ms.
    pub tombstone_ms: u64,
    /// Messages kept now.
    pub messages: u64,
    /// Bytes kept now.
    pub bytes: u64,
    /// Messages kept now, per partition.
    pub kept: Vec<u64>,
    /// First offset kept, per partition.
    pub starts: Vec<u64>,
    /// One past the last offset, per partition.
    pub ends: Vec<u64>,
    /// Messages ever taken.
    pub published: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages removed by retention.
    pub removed: u64,
    /// Messages removed by compaction.
    pub compacted: u64,
    /// Times that compaction stopped because a partition had too many gaps.
    pub compaction_stops: u64,
    /// Its groups.
    pub groups: Vec<GroupInfo>,
}

/// Answer of info for a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupInfo {
    /// The stream.
    pub stream: String,
    /// Name.
    pub name: String,
    /// Least order.
    pub order: Order,
    /// Options for the delivery policy.
    pub options: Map<String, Value>,
    /// Next offset to be settled, per partition.
    pub cursors: Vec<u64>,
    /// Its deliveries and consumers.
    pub delivery: GroupFigures,
}

/// Deliveries of a queue or a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupFigures {
    /// The delivery binding that decides, or `built-in`.
    pub binding: String,
    /// Which generation of it.
    pub generation: u64,
    /// Messages not yet settled, now.
    pub lag: u64,
    /// Waiting for a consumer, now; also those that wait for their time and that no
    /// consumer has made the broker look at yet.
    pub ready: u64,
    /// With a consumer, now.
    pub in_flight: u64,
    /// Known to wait for their time, now: see `ready`.
    pub delayed: u64,
    /// Held until an operator acts, now.
    pub parked: u64,
    /// Handed to consumers, redeliveries included.
    pub delivered: u64,
    /// Handed to consumers again.
    pub redelivered: u64,
    /// Settled by an ack, or by delivery where the plan says so.
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
    /// Consumers, now; the list may be shorter than this.
    pub consumers_total: u64,
    /// The first of its consumers.
    pub consumers: Vec<ConsumerInfo>,
}

/// A consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerInfo {
    /// Number of its connection.
    pub connection: u64,
    /// Its number there.
    pub sub: u32,
    /// Its name.
    pub name: String,
    /// Deliveries it may still receive.
    pub credit: u32,
    /// Deliveries it holds.
    pub in_flight: u32,
}

/// Answer of policy_list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyListAnswer {
    /// Policies that bindings can name.
    pub policies: Vec<PolicyItem>,
}

/// A policy that bindings can name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyItem {
    /// Name.
    pub name: String,
    /// Its own version, or "".
    pub version: String,
    /// Roles it can play: `router`, `filter`, `delivery`.
    pub roles: Vec<String>,
    /// Where it comes from: `shipped` or `folder`.
    pub origin: String,
    /// SHA-256 of the component, hex.
    pub digest: String,
    /// Bindings that use it.
    pub bindings: Vec<String>,
    /// Why it cannot be used, one sentence; absent when it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Answer of policy_status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyStatusAnswer {
    /// The bindings, by name.
    pub bindings: Vec<BindingStatus>,
    /// What came of the files so far, all bindings together.
    pub counters: PolicyCounters,
}

/// What became of the files in the policy folders since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyCounters {
    /// Looks at the folders.
    pub passes: u64,
    /// Components compiled.
    pub compilations: u64,
    /// Generations started.
    pub activations: u64,
    /// Generations refused before they met a message.
    pub refusals: u64,
    /// Generations left for an earlier one, by the operator or for a failure.
    pub rollbacks: u64,
    /// Times that a generation failed too often.
    pub troubles: u64,
    /// Files that are not what their name promises.
    pub file_problems: u64,
}

/// The failure of a policy that was met last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyFailure {
    /// Which generation failed.
    pub generation: u64,
    /// When, ms since the epoch.
    pub time_ms: u64,
    /// One sentence.
    pub reason: String,
}

/// A metric that a policy defined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyMetric {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// One line for people.
    pub help: String,
    /// The count, the value, or the sum of a histogram; null for what is no number.
    pub value: Value,
    /// A histogram's values up to 1, 4, 16, and so on in powers of four up to
    /// 4,194,304, then the rest; else empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<u64>,
}

/// A line that a policy wrote to its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyLogLine {
    /// When, ms since the epoch.
    pub time_ms: u64,
    /// Which generation wrote it.
    pub generation: u64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The line.
    pub message: String,
}

/// A binding and what it did. Also the answer of policy_rollback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindingStatus {
    /// Its name.
    pub binding: String,
    /// The policy it names.
    pub policy: String,
    /// The policy's own version, or "".
    pub version: String,
    /// `router`, `filter` or `delivery`.
    pub role: String,
    /// `publish` or `deliver`.
    pub stage: String,
    /// Patterns of what it applies to.
    pub scope: Vec<String>,
    /// Rank: lower decides first.
    pub order: i32,
    /// `refuse`, `pass` or `hold`: what happens when it fails.
    pub on_failure: String,
    /// Powers the operator granted.
    pub powers: Vec<String>,
    /// Its configuration.
    pub config: Map<String, Value>,
    /// `waiting`: its files are being written. `active`: as its file says.
    /// `kept`: the file cannot be used, the generation before goes on.
    /// `rolled-back`: gone back to an earlier generation. `failing`: it runs and
    /// fails, and there is nothing to go back to. `failed`: nothing runs.
    /// `removed`: taken away.
    pub state: String,
    /// Why it is not active, one sentence; absent when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The generation in use; 0 for none.
    pub generation: u64,
    /// SHA-256 of its component, hex.
    pub digest: String,
    /// Since when it is in use, ms since the epoch.
    pub since_ms: u64,
    /// Whether it is called: `closed`; `open`: it failed too often and is not
    /// called for a while; `half-open`: that while is over, and nothing has gone
    /// well since. "" when nothing runs.
    pub breaker: String,
    /// Calls of the guest. This and the other figures are those of the generation
    /// in use.
    pub calls: u64,
    /// Messages judged, remembered answers included.
    pub rows: u64,
    /// Messages judged from a remembered answer.
    pub memo_hits: u64,
    /// Messages that met the failure rule.
    pub failed_rows: u64,
    /// Messages of these whose answer needed a power that was not granted.
    pub denied_rows: u64,
    /// Messages refused.
    pub refused_rows: u64,
    /// Messages dropped.
    pub dropped_rows: u64,
    /// Messages diverted to a dead-letter queue.
    pub diverted_rows: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls of these that trapped, ran out of time or memory, or answered
    /// nonsense.
    pub traps: u64,
    /// Instances made, replacements included.
    pub instances: u64,
    /// Memory of its largest instance, bytes.
    pub memory_bytes: u64,
    /// Writes to its state that were beyond the bound.
    pub kv_refused: u64,
    /// State it keeps in the broker, bytes.
    pub kv_bytes: u64,
    /// Log lines left out because there were too many, by all generations.
    pub log_lines_dropped: u64,
    /// The last failure; absent when the broker remembers none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<PolicyFailure>,
    /// The metrics it defined. Told when one binding is asked about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<PolicyMetric>,
    /// Its last log lines, oldest first. Told when one binding is asked about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<PolicyLogLine>,
    /// The generations before, newest first; the broker keeps a few.
    pub previous: Vec<GenerationStatus>,
}

/// A generation that is not in use any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationStatus {
    /// Its number.
    pub generation: u64,
    /// SHA-256 of its component, hex.
    pub digest: String,
    /// Messages it judged.
    pub rows: u64,
    /// Messages that met the failure rule.
    pub failed_rows: u64,
    /// `retired`, `failed` or `rolled-back`.
    pub state: String,
    /// Why it ended, one sentence, where there is more to say than "replaced".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
