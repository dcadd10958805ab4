//! Queues and streams: names, settings, and the patterns they listen on.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Listener, SHARD_IDS_START, too_many_globs};
use crate::command::{DestinationId, GroupConfig, Level, QueueConfig, StreamConfig};
use crate::limits::{
    DESTINATIONS_MAX, GROUPS_PER_STREAM_MAX, PARTITIONS_MAX, PATTERNS_PER_DESTINATION_MAX,
    STREAM_LOGS_MAX,
};
use crate::name::{Name, Pattern};
use crate::pattern_index::{PatternIndex, Place};
use crate::rejection::{Limit, Rejection};

/// What a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Work shared by competing consumers.
    Queue,
    /// A retained log with groups.
    Stream,
}

/// How a destination is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// A queue's.
    Queue(QueueConfig),
    /// A stream's.
    Stream(StreamConfig),
}

impl Settings {
    /// The kind these are settings of.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Queue(_) => Kind::Queue,
            Self::Stream(_) => Kind::Stream,
        }
    }

    /// A stream's; none for a queue.
    fn partitions(&self) -> u64 {
        match self {
            Self::Queue(_) => 0,
            Self::Stream(config) => u64::from(config.partitions),
        }
    }

    /// The level the operator insists on.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Queue(config) => config.level,
            Self::Stream(config) => config.level,
        }
    }
}

/// A queue or stream.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its number.
    pub id: DestinationId,
    /// Its name.
    pub name: Arc<str>,
    /// The shard that owns it.
    pub shard: u32,
    /// What it listens on, in order and without doubles.
    pub subjects: Vec<Pattern>,
    /// How it is kept.
    pub settings: Settings,
    /// Groups of a stream, by name.
    pub groups: BTreeMap<String, GroupConfig>,
    places: Box<[Place]>,
}

impl Destination {
    /// Queue or stream.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.settings.kind()
    }

    /// Logs that it has as a stream: see [`STREAM_LOGS_MAX`].
    fn logs(&self) -> u64 {
        self.settings.partitions() * (1 + self.groups.len() as u64)
    }
}

/// What a call has made or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The queue or stream, or the stream of the group.
    pub id: DestinationId,
    /// The shard that owns it.
    pub shard: u32,
    /// False when it was there already.
    pub is_new: bool,
}

#[derive(Debug, Default)]
pub(super) struct Destinations {
    pub(super) by_id: HashMap<DestinationId, Destination>,
    by_name: BTreeMap<Arc<str>, DestinationId>,
    last_id: u32,
    /// Logs of all streams: see [`STREAM_LOGS_MAX`].
    stream_logs: u64,
}

type Index = PatternIndex<Listener>;

impl Destinations {
    pub(super) fn list(&self) -> impl Iterator<Item = &Destination> {
        self.by_name.values().map(|id| &self.by_id[id])
    }

    pub(super) fn find(&self, name: &str) -> Option<&Destination> {
        self.by_name.get(name).map(|id| &self.by_id[id])
    }

    pub(super) fn create(
        &mut self,
        index: &mut Index,
        name: &Name,
        subjects: Vec<Pattern>,
        settings: Settings,
        shard: u32,
        is_bounded: bool,
    ) -> Result<Created, Rejection> {
        let subjects = checked_subjects(subjects)?;
        if let Some(there) = self.find(name.as_str()) {
            if there.kind() != settings.kind() {
                return Err(Rejection::WrongKind);
            }
            if there.settings != settings || there.subjects != subjects {
                return Err(Rejection::Exists);
            }
            return Ok(Created { id: there.id, shard: there.shard, is_new: false });
        }
        if let Settings::Stream(config) = &settings
            && !(1..=PARTITIONS_MAX).contains(&config.partitions)
        {
            return Err(Rejection::OverLimit(&Limit {
                what: "partitions, 1 or more",
                name: "partitions",
                most: PARTITIONS_MAX as u64,
            }));
        }
        if is_bounded && self.by_id.len() >= DESTINATIONS_MAX || self.last_id + 1 >= SHARD_IDS_START
        {
            return Err(Rejection::OverLimit(&Limit {
                what: "queues and streams of this broker",
                name: "destinations",
                most: DESTINATIONS_MAX as u64,
            }));
        }
        if is_bounded {
            self.has_room_for(settings.partitions())?;
            if !index.has_room(&subjects) {
                return Err(too_many_globs());
            }
        }
        self.last_id += 1;
        let id = DestinationId(self.last_id);
        self.add(index, id, name.as_str(), subjects, settings, shard);
        Ok(Created { id, shard, is_new: true })
    }

    pub(super) fn alter(
        &mut self,
        index: &mut Index,
        name: &str,
        subjects: Option<Vec<Pattern>>,
        mut settings: Settings,
    ) -> Result<DestinationId, Rejection> {
        let subjects = subjects.map(checked_subjects).transpose()?;
        if subjects.as_ref().is_some_and(|subjects| !index.has_room(subjects)) {
            return Err(too_many_globs());
        }
        let destination = self.find_mut(name)?;
        match (&destination.settings, &mut settings) {
            (Settings::Queue(_), Settings::Queue(_)) => {}
            (Settings::Stream(old), Settings::Stream(new)) => new.partitions = old.partitions,
            _ => return Err(Rejection::WrongKind),
        }
        destination.settings = settings;
        if let Some(subjects) = subjects {
            unlisten(index, destination);
            destination.subjects = subjects;
            listen(index, destination);
        }
        Ok(destination.id)
    }

    pub(super) fn delete(
        &mut self,
        index: &mut Index,
        name: &str,
        kind: Kind,
    ) -> Result<Destination, Rejection> {
        let there = self.find(name).ok_or(Rejection::NotFound)?;
        if there.kind() != kind {
            return Err(Rejection::WrongKind);
        }
        Ok(self.take(index, name).expect("it was found above"))
    }

    pub(super) fn adopt_queue(
        &mut self,
        index: &mut Index,
        name: &str,
        id: DestinationId,
        shard: u32,
    ) -> Result<(), Rejection> {
        match self.find(name) {
            Some(there) if there.kind() == Kind::Stream => return Err(Rejection::WrongKind),
            Some(there) if there.id == id => return Ok(()),
            _ => {}
        }
        let (subjects, settings) = match self.take(index, name) {
            Some(there) => (there.subjects, there.settings),
            None => {
                let level = self.served_by(name).map_or(Level::Memory, |it| it.settings.level());
                let config = QueueConfig { messages_max: 0, bytes_max: 0, level, order: 0 };
                (Vec::new(), Settings::Queue(config))
            }
        };
        self.add(index, id, name, subjects, settings, shard);
        Ok(())
    }

    pub(super) fn create_group(
        &mut self,
        stream: &str,
        group: &Name,
        config: GroupConfig,
        is_bounded: bool,
    ) -> Result<Created, Rejection> {
        let stream = self.find(stream).ok_or(Rejection::NotFound)?;
        let Settings::Stream(settings) = &stream.settings else {
            return Err(Rejection::WrongKind);
        };
        let (id, shard, cursors) = (stream.id, stream.shard, u64::from(settings.partitions));
        if let Some(there) = stream.groups.get(group.as_str()) {
            let is_same = there.order == config.order && there.options == config.options;
            return is_same
                .then_some(Created { id, shard, is_new: false })
                .ok_or(Rejection::Exists);
        }
        if stream.groups.len() >= GROUPS_PER_STREAM_MAX {
            return Err(Rejection::OverLimit(&Limit {
                what: "groups of one stream",
                name: "groups_per_stream",
                most: GROUPS_PER_STREAM_MAX as u64,
            }));
        }
        if is_bounded {
            self.has_room_for(cursors)?;
        }
        self.stream_logs += cursors;
        let stream = self.by_id.get_mut(&id).expect("it was just found");
        stream.groups.insert(group.as_str().to_owned(), config);
        Ok(Created { id, shard, is_new: true })
    }

    pub(super) fn alter_group(
        &mut self,
        stream: &str,
        group: &str,
        config: GroupConfig,
    ) -> Result<Created, Rejection> {
        let stream = self.stream_mut(stream)?;
        let there = stream.groups.get_mut(group).ok_or(Rejection::NotFound)?;
        *there = GroupConfig { start: there.start, ..config };
        Ok(Created { id: stream.id, shard: stream.shard, is_new: false })
    }

    pub(super) fn delete_group(&mut self, stream: &str, group: &str) -> Result<Created, Rejection> {
        let stream = self.stream_mut(stream)?;
        stream.groups.remove(group).ok_or(Rejection::NotFound)?;
        let (id, shard, cursors) = (stream.id, stream.shard, stream.settings.partitions());
        self.stream_logs -= cursors;
        Ok(Created { id, shard, is_new: false })
    }

    /// Whether so many logs more may be made for streams.
    fn has_room_for(&self, logs: u64) -> Result<(), Rejection> {
        if logs > 0 && self.stream_logs + logs > STREAM_LOGS_MAX {
            return Err(Rejection::OverLimit(&Limit {
                what: "partitions of all streams, each once more for every group",
                name: "stream_logs",
                most: STREAM_LOGS_MAX,
            }));
        }
        Ok(())
    }

    fn find_mut(&mut self, name: &str) -> Result<&mut Destination, Rejection> {
        let id = self.by_name.get(name).ok_or(Rejection::NotFound)?;
        Ok(self.by_id.get_mut(id).expect("every name has its destination"))
    }

    fn stream_mut(&mut self, name: &str) -> Result<&mut Destination, Rejection> {
        let destination = self.find_mut(name)?;
        match destination.kind() {
            Kind::Stream => Ok(destination),
            Kind::Queue => Err(Rejection::WrongKind),
        }
    }

    /// The destination whose dead letters go to `name`: the one that the longest
    /// part of it before a slash names.
    fn served_by(&self, name: &str) -> Option<&Destination> {
        name.rmatch_indices('/').find_map(|(at, _)| self.find(&name[..at]))
    }

    fn add(
        &mut self,
        index: &mut Index,
        id: DestinationId,
        name: &str,
        subjects: Vec<Pattern>,
        settings: Settings,
        shard: u32,
    ) {
        self.stream_logs += settings.partitions();
        let name: Arc<str> = name.into();
        let mut destination = Destination {
            id,
            name: name.clone(),
            shard,
            subjects,
            settings,
            groups: BTreeMap::new(),
            places: Box::default(),
        };
        listen(index, &mut destination);
        self.by_name.insert(name, id);
        self.by_id.insert(id, destination);
    }

    fn take(&mut self, index: &mut Index, name: &str) -> Option<Destination> {
        let id = self.by_name.remove(name)?;
        let mut destination = self.by_id.remove(&id)?;
        unlisten(index, &mut destination);
        self.stream_logs -= destination.logs();
        Some(destination)
    }
}

fn listen(index: &mut Index, destination: &mut Destination) {
    let listener = Listener::Destination(destination.id);
    destination.places =
        destination.subjects.iter().map(|pattern| index.insert(pattern, listener)).collect();
}

fn unlisten(index: &mut Index, destination: &mut Destination) {
    for place in std::mem::take(&mut destination.places) {
        index.remove(place, Listener::Destination(destination.id));
    }
}

fn checked_subjects(mut subjects: Vec<Pattern>) -> Result<Vec<Pattern>, Rejection> {
    subjects.sort_unstable();
    subjects.dedup();
    if subjects.len() > PATTERNS_PER_DESTINATION_MAX {
        return Err(Rejection::OverLimit(&Limit {
            what: "patterns of one queue or stream",
            name: "patterns_per_destination",
            most: PATTERNS_PER_DESTINATION_MAX as u64,
        }));
    }
    Ok(subjects)
}
