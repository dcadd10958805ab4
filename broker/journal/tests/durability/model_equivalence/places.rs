//! The queues and streams there are, with their settings, as a directory keeps them from
//! one process to the next.

use weir_core::command::{
    Command, DestinationId, GroupConfig, Level, QueueConfig, Start, StreamConfig,
};
use weir_core::limits;
use weir_journal::sim::Seeded;

use super::one_of;
use crate::shard::{create_queue, message};

/// Where each is among [`Place::all`].
pub(super) const ONE: usize = 0;
pub(super) const TWO: usize = 1;
pub(super) const EVEN: usize = 2;
pub(super) const STREAM: usize = 3;
pub(super) const KEYED: usize = 4;
/// How many there are.
pub(super) const PLACES: usize = 5;

/// Partitions of each stream.
pub(super) const PARTITIONS: u16 = 2;
/// Length of every message of the queue and the stream whose bytes are bounded. Their
/// subjects, which make up for the rest, take one to 31 letters by that.
const EVEN_BYTES: usize = 36;
/// Messages that the compacted stream keeps in a partition, most: one step of a pass reads
/// them twice, even where each is a piece by itself and a read of its own.
const KEYED_MAX: u64 = 150;

const _: () = assert!(KEYED_MAX as usize * 4 < limits::COMPACTION_STEP_PIECES);
const _: () = assert!(KEYED_MAX as usize * 2 * EVEN_BYTES < limits::COMPACTION_STEP_BYTES);

/// How a queue or a stream is kept.
#[derive(Clone)]
pub(super) enum Settings {
    Queue(QueueConfig),
    Stream(StreamConfig),
}

/// A group of a stream.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) is_there: bool,
    pub(super) config: GroupConfig,
}

impl Group {
    /// What makes it, or gives it its settings.
    pub(super) fn put(&self, stream: DestinationId) -> Command {
        Command::PutGroup { stream, group: self.name.to_owned(), config: self.config.clone() }
    }
}

/// Other settings.
#[derive(Debug)]
pub(super) enum Change {
    Queue(QueueConfig),
    Stream(StreamConfig),
    Group(Group),
}

impl Change {
    pub(super) fn command(&self, id: DestinationId) -> Command {
        match self {
            Self::Queue(config) => Command::AlterQueue { id, config: config.clone() },
            Self::Stream(config) => {
                // Their number stays as it is, whatever an alteration says.
                let config = StreamConfig { partitions: PARTITIONS + 5, ..config.clone() };
                Command::AlterStream { id, config }
            }
            Self::Group(group) => group.put(id),
        }
    }
}

/// A queue or a stream.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) name: &'static str,
    /// Its number; the last one it had while it is deleted, as late commands have it.
    pub(super) id: DestinationId,
    pub(super) is_there: bool,
    /// First offset of its first partition, when that was last told.
    pub(super) start: u64,
    pub(super) settings: Settings,
    pub(super) groups: Vec<Group>,
}

impl Place {
    pub(super) fn all() -> [Self; PLACES] {
        let queue = |level, messages_max, bytes_max| {
            Settings::Queue(QueueConfig { messages_max, bytes_max, level, order: 0 })
        };
        let stream = |messages_max, compact| {
            Settings::Stream(StreamConfig {
                partitions: PARTITIONS,
                messages_max,
                level: Level::Disk,
                compact,
                tombstone_ms: 5_000,
                ..StreamConfig::default()
            })
        };
        let all: [(&'static str, Settings, &[&'static str]); PLACES] = [
            ("one", queue(Level::Disk, 60, 0), &[]),
            ("two", queue(Level::Os, 0, 0), &[]),
            ("even", queue(Level::Disk, 0, bytes_of(50)), &[]),
            ("stream", stream(300, false), &["a", "b"]),
            ("keyed", stream(KEYED_MAX, true), &["a", "b"]),
        ];
        let mut number = 0;
        all.map(|(name, settings, groups)| {
            number += 1;
            let groups = groups.iter().zip(0..).map(|(&name, order)| {
                let config = GroupConfig { order, ..GroupConfig::default() };
                Group { name, is_there: true, config }
            });
            let (id, groups) = (DestinationId(number), groups.collect());
            Self { name, id, is_there: true, start: 0, settings, groups }
        })
    }

    pub(super) fn is_queue(&self) -> bool {
        matches!(self.settings, Settings::Queue(_))
    }

    /// What makes it, with the groups it has.
    pub(super) fn make(&self) -> Vec<Command> {
        let id = self.id;
        let create = match &self.settings {
            Settings::Queue(config) => create_queue(id.0, self.name, config.clone()),
            Settings::Stream(config) => {
                let (name, config) = (self.name.to_owned(), config.clone());
                Command::CreateStream { id, name, config }
            }
        };
        let groups = self.groups.iter().filter(|group| group.is_there);
        std::iter::once(create).chain(groups.map(|group| group.put(id))).collect()
    }

    /// Gives it, or a group of it, other settings. `None` when that is not there.
    pub(super) fn alter(&mut self, random: &mut Seeded) -> Option<Change> {
        if !self.is_there {
            return None;
        }
        let is_even = is_even(self.name);
        let level = *one_of(random, &[Level::Os, Level::Disk]);
        let order = *one_of(random, &[0, 0, 1, 2]);
        match &mut self.settings {
            Settings::Queue(config) => {
                let messages: &[u64] = if is_even { &[0, 0, 0, 40] } else { &[0, 20, 60, 150] };
                let bytes: &[u64] = if is_even { &[0, 20, 50, 200] } else { &[0] };
                let before = config.clone();
                *config = QueueConfig {
                    messages_max: *one_of(random, messages),
                    bytes_max: bytes_of(*one_of(random, bytes)),
                    level,
                    order,
                };
                (*config != before).then(|| Change::Queue(config.clone()))
            }
            Settings::Stream(_) if random.one_in(2) => {
                let which = random.below(self.groups.len() as u64) as usize;
                let group = &mut self.groups[which];
                if !group.is_there {
                    return None;
                }
                let options = (*one_of(random, &["", "{}"])).to_owned();
                let config = GroupConfig { start: group.config.start, order, options };
                let before = std::mem::replace(&mut group.config, config);
                (group.config != before).then(|| Change::Group(group.clone()))
            }
            Settings::Stream(config) => {
                let messages: &[u64] =
                    if is_even { &[40, 80, KEYED_MAX] } else { &[0, 100, 200, 300] };
                let bytes: &[u64] = if is_even { &[0, 30, 100] } else { &[0] };
                let before = config.clone();
                *config = StreamConfig {
                    partitions: PARTITIONS,
                    messages_max: *one_of(random, messages),
                    bytes_max: bytes_of(*one_of(random, bytes)),
                    age_ms_max: *one_of(random, &[0, 0, 0, 2_000, 20_000]),
                    level,
                    compact: is_even && !random.one_in(6),
                    tombstone_ms: *one_of(random, &[300, 5_000, 40_000, limits::TOMBSTONE_MS]),
                };
                (*config != before).then(|| Change::Stream(config.clone()))
            }
        }
    }

    /// A place in the stream: near what is kept, mostly.
    pub(super) fn somewhere(&self, wall_ms: u64, random: &mut Seeded) -> Start {
        match random.below(6) {
            0 => Start::Earliest,
            1 => Start::Latest,
            // See the test's head.
            2 if !is_even(self.name) => Start::Time(wall_ms.saturating_sub(random.below(20_000))),
            3 => Start::Offset(random.below(400)),
            _ => Start::Offset(self.start.saturating_sub(20) + random.below(400)),
        }
    }

    /// A message of the kind that is published here.
    pub(super) fn message(&self, number: u32, row: u64, random: &mut Seeded) -> Vec<u8> {
        let text = format!("{number}/{row}");
        if is_even(self.name) {
            let key = if random.one_in(10) { String::new() } else { random.below(6).to_string() };
            // Without a payload it deletes what has its key, where that is compacted.
            return even(&key, if random.one_in(5) { "" } else { text.as_str() });
        }
        let (key, text) = (random.below(4).to_string(), format!("{text}/{}", random.below(9)));
        message(&key, &text.repeat(1 + random.below(40) as usize))
    }
}

/// Whether all messages of a queue or a stream are as long as each other.
pub(super) fn is_even(name: &str) -> bool {
    name == "even" || name == "keyed"
}

/// A bound of bytes that so many messages reach, and one more breaks; none for 0.
fn bytes_of(messages: u64) -> u64 {
    if messages == 0 { 0 } else { messages * EVEN_BYTES as u64 + 5 }
}

/// A message that is as long as every other: the subject is as long as that takes.
fn even(key: &str, payload: &str) -> Vec<u8> {
    let with = |subject: &str| {
        let mut message = Vec::new();
        let (key, payload) = (key.as_bytes(), payload.as_bytes());
        weir_message::encode(&mut message, subject, key, &[], payload);
        message
    };
    let message = with(&"s".repeat(1 + EVEN_BYTES - with("s").len()));
    assert_eq!(message.len(), EVEN_BYTES);
    message
}
