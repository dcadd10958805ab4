//! Making, changing and removing queues, streams and groups. The directory has
//! checked names and limits; a number is never used twice.

use std::sync::Arc;

use super::{Destination, Owner, Shard};
use crate::command::{
    ConnectionId, DestinationId, GroupConfig, Level, QueueConfig, StreamConfig, SubscriptionId,
};
use crate::effect::{Effect, Reply};
use crate::env::Now;
use crate::group::part::Part;
use crate::group::{Group, GroupId, Identity};
use crate::queue::{Queue, level_kept};
use crate::rejection::Rejection;
use crate::store::LogId;
use crate::stream::Stream;

impl Shard {
    pub(super) fn create_queue(
        &mut self,
        now: Now,
        id: DestinationId,
        name: String,
        config: QueueConfig,
    ) {
        if self.destinations.contains_key(&id) || self.names.contains_key(&*name) {
            return;
        }
        let name: Arc<str> = name.into();
        let log = match self.store.open(&format!("queue/{name}")) {
            Ok(log) => log,
            Err(error) => return self.note_fault(error),
        };
        let level = level_kept(&*self.store, log, config.level);
        let part = Part::resume(&mut *self.store, log, log);
        let identity = Identity::of_queue(name.clone());
        let group = self.make_group(now, identity, config.order, level, vec![part]);
        let bytes = self.store.bounds(log).bytes;
        if self.ids.contains(&id.0) {
            // Made by a shard once, and known to the directory since.
            self.ids.start = id.0 + 1;
        }
        self.names.insert(name.clone(), id);
        let queue = Queue {
            name,
            config,
            log,
            group,
            bytes,
            published: 0,
            refused: 0,
            removed: 0,
            is_pressed: false,
            is_touched: false,
            is_estimated: bytes > 0,
        };
        self.own(log, id);
        self.destinations.insert(id, Destination::Queue(queue));
    }

    pub(super) fn create_stream(
        &mut self,
        now: Now,
        id: DestinationId,
        name: String,
        config: StreamConfig,
    ) {
        if self.destinations.contains_key(&id) || self.names.contains_key(&*name) {
            return;
        }
        let mut parts: Vec<LogId> = Vec::new();
        for partition in 0..config.partitions.max(1) {
            match self.store.open(&format!("stream/{name}/{partition}")) {
                Ok(log) => parts.push(log),
                Err(error) => return self.note_fault(error),
            }
        }
        let levels = parts.iter().map(|&log| level_kept(&*self.store, log, config.level));
        let level = levels.max().unwrap_or_default();
        self.names.insert(name.as_str().into(), id);
        parts.iter().for_each(|&log| self.own(log, id));
        let stream = Stream::new(name, config, parts, level, &*self.store);
        self.destinations.insert(id, Destination::Stream(Box::new(stream)));
        // What an earlier process left may be too old by now.
        self.retain(now, id);
        self.arm_passes(now, id);
    }

    pub(super) fn alter_queue(
        &mut self,
        now: Now,
        id: DestinationId,
        config: QueueConfig,
        effects: &mut Vec<Effect>,
    ) {
        let Ok(queue) = self.queue_mut(id) else { return };
        let order_changes = queue.config.order != config.order;
        queue.config = config;
        let (group, order, level) = (queue.group, queue.config.order, queue.config.level);
        let altered = self.groups.get_mut(&group).expect("a queue has a group");
        altered.level = altered.level.max(level);
        if order_changes {
            self.alter_group(now, group, order, None, effects);
        }
    }

    pub(super) fn alter_stream(&mut self, now: Now, id: DestinationId, config: StreamConfig) {
        let Some(Destination::Stream(stream)) = self.destinations.get_mut(&id) else { return };
        let partitions = stream.config.partitions;
        let (compact, tombstone_ms) = (stream.config.compact, stream.config.tombstone_ms);
        let other_passes = (compact, tombstone_ms) != (config.compact, config.tombstone_ms);
        stream.config = StreamConfig { partitions, ..config };
        stream.level = stream.level.max(stream.config.level);
        let level = stream.level;
        for group in stream.groups.values() {
            let group = self.groups.get_mut(group).expect("a stream's groups exist");
            group.level = group.level.max(level);
        }
        // A shorter age may be due sooner than what was armed.
        let armed_ms = std::mem::replace(&mut stream.armed_ms, u64::MAX);
        self.deadlines.remove(&(armed_ms, Owner::Stream(id)));
        self.retain(now, id);
        if other_passes {
            self.end_passes(now, id);
            self.arm_passes(now, id);
        }
    }

    pub(super) fn put_group(
        &mut self,
        now: Now,
        stream: DestinationId,
        name: &str,
        config: GroupConfig,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Destination::Stream(found)) = self.destinations.get(&stream) else { return };
        if let Some(&group) = found.groups.get(name) {
            return self.alter_group(now, group, config.order, Some(config.options), effects);
        }
        let mut parts = Vec::new();
        for (partition, &log) in found.parts.iter().enumerate() {
            let cursor_name = cursor_name(&found.name, name, partition);
            let is_known = self.store.has(&cursor_name);
            // What is published from now on is not passed over, whatever was asked for.
            let end = self.store.bounds(log).end;
            let start = found.offset_of(&*self.store, partition, config.start).min(end);
            let store = &mut *self.store;
            match store.open(&cursor_name) {
                Ok(cursor) if is_known => parts.push(Part::resume(store, log, cursor)),
                Ok(cursor) => parts.push(Part::restart(store, log, cursor, start)),
                Err(error) => return self.note_fault(error),
            }
        }
        let level = found.level;
        let identity = Identity::of_group(&found.name, name, &config.options);
        let group = self.make_group(now, identity, config.order, level, parts);
        if let Ok(found) = self.stream_mut(stream) {
            found.groups.insert(name.to_owned(), group);
        }
    }

    pub(super) fn delete_group(
        &mut self,
        now: Now,
        stream: DestinationId,
        name: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Ok(found) = self.stream_mut(stream) else { return };
        if let Some(group) = found.groups.remove(name) {
            self.end_group(now, group, effects);
        }
    }

    pub(super) fn delete(&mut self, now: Now, id: DestinationId, effects: &mut Vec<Effect>) {
        self.end_passes(now, id);
        let (name, logs, groups) = match self.destinations.remove(&id) {
            Some(Destination::Queue(queue)) => (queue.name, vec![queue.log], vec![queue.group]),
            Some(Destination::Stream(stream)) => {
                self.deadlines.remove(&(stream.armed_ms, Owner::Stream(id)));
                (stream.name.into(), stream.parts, stream.groups.into_values().collect())
            }
            None => return,
        };
        self.names.remove(&name);
        groups.into_iter().for_each(|group| self.end_group(now, group, effects));
        self.pledges.withdraw(id, effects);
        for log in logs {
            self.owners.take(log.0);
            if let Err(error) = self.store.remove(log) {
                self.note_fault(error);
            }
        }
    }

    /// Notes whose log it is.
    fn own(&mut self, log: LogId, id: DestinationId) {
        self.owners.put(log.0, id);
    }

    fn make_group(
        &mut self,
        now: Now,
        identity: Identity,
        order: u8,
        level: Level,
        parts: Vec<Part>,
    ) -> GroupId {
        self.groups_made += 1;
        let id = self.groups_made;
        self.groups.insert(id, Box::new(Group::new(id, identity, order, level, parts)));
        // Nobody is attached and nothing was taken: what opening it leads to
        // needs no effects but a policy's failure, which waits for the turn's end.
        self.reopen(now, id);
        self.assign_filters_of(id);
        self.touch(id);
        id
    }

    fn alter_group(
        &mut self,
        now: Now,
        id: GroupId,
        order: u8,
        options: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let options_change = options.as_ref().is_some_and(|new| **new != *group.identity.options);
        if group.order_floor == order && !options_change {
            return;
        }
        group.order_floor = order;
        if let Some(options) = options {
            group.identity.options = options.into();
        }
        if let Some(binding) = group.decider.binding {
            self.policies.close(binding, now.wall_ms, id);
        }
        self.reopen(now, id);
        self.open_groups(now, effects);
    }

    /// Ends a group: its consumers are told, its policy too.
    fn end_group(&mut self, now: Now, id: GroupId, effects: &mut Vec<Effect>) {
        let Some(mut group) = self.groups.remove(&id) else { return };
        self.deadlines.remove(&(group.armed_ms, Owner::Group(id)));
        for consumer in std::mem::take(&mut group.consumers).into_values() {
            let (connection, subscription) = (consumer.connection, consumer.subscription);
            for pull in &consumer.pulls {
                let reply = Reply::Rejected(Rejection::Deleted);
                effects.push(Effect::Reply { connection, request: pull.request, reply });
            }
            self.consumers.remove(&(connection, subscription));
            effects.push(ended(connection, subscription, Rejection::Deleted));
        }
        if let Some(binding) = group.decider.binding {
            self.policies.close(binding, now.wall_ms, id);
        }
        for part in group.parts.iter().filter(|part| part.cursor != part.log) {
            if let Err(error) = self.store.remove(part.cursor) {
                self.note_fault(error);
            }
        }
    }
}

/// Name of the log that holds what a group has settled of a partition.
fn cursor_name(stream: &str, group: &str, partition: usize) -> String {
    format!("group/{stream}/{group}/{partition}")
}

/// Tells a consumer that the broker ended it.
pub(super) fn ended(
    connection: ConnectionId,
    subscription: SubscriptionId,
    reason: Rejection,
) -> Effect {
    Effect::Ended { connection, subscription, reason }
}
