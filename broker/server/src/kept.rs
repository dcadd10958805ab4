//! What the catalogue keeps of a queue, stream or group: enough to make it anew
//! when the broker starts. JSON, under one key each; `docs/storage.md` names them.
//!
//! Written by `change.rs` and `books.rs`, read by `restore.rs`. A later version may
//! add keys with defaults; it never changes what one means.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_core::command::{self, GroupConfig, QueueConfig, StreamConfig};
use weir_core::directory::Settings;
use weir_core::name::{Name, NameError, Pattern};
use weir_protocol::{Kind, Level, Order, Start};

use crate::wire;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kept {
    /// A queue.
    Queue(KeptQueue),
    /// A stream.
    Stream(KeptStream),
    /// A group.
    Group(KeptGroup),
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptQueue {
    name: String,
    #[serde(default, skip_serializing_if = "is_default")]
    subjects: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    messages_max: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    bytes_max: u64,
    level: Level,
    #[serde(default, skip_serializing_if = "is_default")]
    order: Order,
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptStream {
    name: String,
    #[serde(default, skip_serializing_if = "is_default")]
    subjects: Vec<String>,
    partitions: u16,
    #[serde(default, skip_serializing_if = "is_default")]
    messages_max: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    bytes_max: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    age_ms_max: u64,
    level: Level,
    #[serde(default, skip_serializing_if = "is_default")]
    compact: bool,
    #[serde(default = "tombstone_ms")]
    tombstone_ms: u64,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptGroup {
    stream: String,
    name: String,
    /// Where it starts if it ends before it has begun.
    #[serde(default, skip_serializing_if = "is_default")]
    start: Start,
    #[serde(default, skip_serializing_if = "is_default")]
    order: Order,
    /// Options for the delivery policy: JSON text or "".
    #[serde(default, skip_serializing_if = "is_default")]
    options: String,
}

/// What ends the name of a queue for messages that a filter which failed could not judge.
pub const HELD: &str = "/held";

/// Whether the broker makes queues of this name by itself: for dead letters, and for what a
/// filter diverts. Their entries come after them, so that their logs are as good as those.
#[must_use]
pub fn is_made_by_broker(name: &str) -> bool {
    name.ends_with(weir_core::dead_letter::QUEUE_END) || name.ends_with(HELD)
}

/// A queue or stream as the directory wants it.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Its name.
    pub name: Name,
    /// What it listens on.
    pub subjects: Vec<Pattern>,
    /// How it is kept.
    pub settings: Settings,
}

/// A group as the directory wants it.
#[derive(Clone, Debug)]
pub struct RestoredGroup {
    /// Its stream.
    pub stream: String,
    /// Its name.
    pub name: Name,
    /// How it reads.
    pub config: GroupConfig,
}

impl Kept {
    /// Of a queue or stream.
    #[must_use]
    pub fn destination(name: &str, subjects: &[Pattern], settings: &Settings) -> Self {
        let name = name.to_owned();
        let subjects = subjects.iter().map(ToString::to_string).collect();
        match settings {
            Settings::Queue(config) => Self::Queue(KeptQueue {
                name,
                subjects,
                messages_max: config.messages_max,
                bytes_max: config.bytes_max,
                level: wire::level(config.level),
                order: wire::order(config.order),
            }),
            Settings::Stream(config) => Self::Stream(KeptStream {
                name,
                subjects,
                partitions: config.partitions,
                messages_max: config.messages_max,
                bytes_max: config.bytes_max,
                age_ms_max: config.age_ms_max,
                level: wire::level(config.level),
                compact: config.compact,
                tombstone_ms: config.tombstone_ms,
            }),
        }
    }

    /// Of a group.
    #[must_use]
    pub fn group(stream: &str, name: &str, config: &GroupConfig) -> Self {
        Self::Group(KeptGroup {
            stream: stream.to_owned(),
            name: name.to_owned(),
            start: match config.start {
                command::Start::Earliest => Start::Earliest,
                command::Start::Latest => Start::Latest,
                command::Start::Offset(offset) => Start::Offset(offset),
                command::Start::Time(time_ms) => Start::TimeMs(time_ms),
            },
            order: wire::order(config.order),
            options: config.options.clone(),
        })
    }

    /// Where it is kept.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Queue(queue) => wire::catalogue_key(Kind::Queue, None, &queue.name),
            Self::Stream(stream) => wire::catalogue_key(Kind::Stream, None, &stream.name),
            Self::Group(group) => {
                wire::catalogue_key(Kind::Group, Some(&group.stream), &group.name)
            }
        }
    }

    /// As it is kept.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let json = serde_json::to_vec(self).expect("entries have text keys and plain values");
        // Kept in memory as long as what it describes: without room to grow.
        json.into_boxed_slice().into()
    }

    /// As it was kept.
    ///
    /// # Errors
    /// One sentence.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

/// What has its default is not written: there may be many queues, and all of this is in
/// memory.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What was kept before there was such a setting.
fn tombstone_ms() -> u64 {
    weir_core::limits::TOMBSTONE_MS
}

fn patterns(subjects: &[String]) -> Result<Vec<Pattern>, NameError> {
    subjects.iter().map(|text| Pattern::parse(text)).collect()
}

impl KeptQueue {
    /// For the directory.
    ///
    /// # Errors
    /// When a name or pattern is not well formed.
    pub fn restored(&self) -> Result<Restored, NameError> {
        Ok(Restored {
            name: Name::parse(&self.name)?,
            subjects: patterns(&self.subjects)?,
            settings: Settings::Queue(QueueConfig {
                messages_max: self.messages_max,
                bytes_max: self.bytes_max,
                level: wire::level_asked(self.level),
                order: self.order as u8,
            }),
        })
    }
}

impl KeptStream {
    /// For the directory.
    ///
    /// # Errors
    /// When a name or pattern is not well formed.
    pub fn restored(&self) -> Result<Restored, NameError> {
        Ok(Restored {
            name: Name::parse(&self.name)?,
            subjects: patterns(&self.subjects)?,
            settings: Settings::Stream(StreamConfig {
                partitions: self.partitions,
                messages_max: self.messages_max,
                bytes_max: self.bytes_max,
                age_ms_max: self.age_ms_max,
                level: wire::level_asked(self.level),
                compact: self.compact,
                tombstone_ms: self.tombstone_ms,
            }),
        })
    }
}

impl KeptGroup {
    /// For the directory.
    ///
    /// # Errors
    /// When its name is not well formed.
    pub fn restored(&self) -> Result<RestoredGroup, NameError> {
        Ok(RestoredGroup {
            stream: self.stream.clone(),
            name: Name::parse_group(&self.name)?,
            config: GroupConfig {
                start: wire::start(self.start),
                order: self.order as u8,
                options: self.options.clone(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let config =
            QueueConfig { messages_max: 7, bytes_max: 8, level: command::Level::Os, order: 1 };
        let subjects = vec![Pattern::parse("orders.>").unwrap()];
        let settings = Settings::Queue(config);
        let kept = Kept::destination("orders", &subjects, &settings);
        assert_eq!(kept.key(), "queue/orders");
        let Kept::Queue(queue) = Kept::decode(&kept.encode()).unwrap() else { panic!() };
        let restored = queue.restored().unwrap();
        assert_eq!((restored.subjects, restored.settings), (subjects, settings));
        let config = GroupConfig {
            start: command::Start::Time(5),
            order: 2,
            options: r#"{"a":1}"#.to_owned(),
        };
        let kept = Kept::group("flights/eu", "audit", &config);
        assert_eq!(kept.key(), "group/flights/eu/audit");
        let Kept::Group(group) = Kept::decode(&kept.encode()).unwrap() else { panic!() };
        assert_eq!(group.restored().unwrap().config, config);
    }

    #[test]
    fn a_dead_letter_queue_listens_on_nothing_when_it_comes_back_either() {
        let settings = Settings::Queue(QueueConfig::default());
        let kept = Kept::destination("orders/dead", &[], &settings);
        let Kept::Queue(queue) = Kept::decode(&kept.encode()).unwrap() else { panic!() };
        assert!(queue.restored().unwrap().subjects.is_empty());
    }
}
