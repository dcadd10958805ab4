//! Consumers of the shard's groups, by connection and number.

use std::sync::Arc;

use super::Shard;
use super::policies::Joined;
use crate::command::{ConnectionId, RequestId, Settlement, Source, SubscriptionId, Verb};
use crate::effect::{Effect, Reply};
use crate::env::Now;
use crate::group::GroupId;
use crate::group::consumer::{Consumer, Tally};
use crate::group::line::Line;
use crate::limits;
use crate::rejection::{Limit, Rejection};

/// A consumer as its connection names it.
pub(super) type Key = (ConnectionId, SubscriptionId);

/// Every consumer of a connection.
fn of(connection: ConnectionId) -> std::ops::RangeInclusive<Key> {
    (connection, SubscriptionId(0))..=(connection, SubscriptionId(u32::MAX))
}

/// What a consumer asks for when it attaches.
pub(super) struct NewConsumer {
    pub(super) source: Source,
    pub(super) credit: u32,
    pub(super) name: String,
    pub(super) labels: String,
}

impl Shard {
    pub(super) fn attach(
        &mut self,
        now: Now,
        key: Key,
        new: NewConsumer,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Rejection> {
        if self.consumers.contains_key(&key) {
            return Err(Rejection::SubscriptionTaken);
        }
        let group = self.group_of(&new.source)?;
        if self.groups[&group].consumers.len() >= limits::CONSUMERS_PER_GROUP_MAX {
            return Err(Rejection::OverLimit(&Limit {
                what: "consumers of one queue or group",
                name: "consumers_per_group",
                most: limits::CONSUMERS_PER_GROUP_MAX as u64,
            }));
        }
        self.consumers_made += 1;
        let id = self.consumers_made;
        let line = self.lines.entry(key.0);
        let line = line.or_insert_with(|| Arc::new(Line::new(key.0, self.turn_bytes_max)));
        let mut consumer = Consumer::new(id, Arc::clone(line), key.1, new.credit);
        consumer.name = new.name;
        consumer.labels = new.labels;
        // A policy that fails here is replaced, and asked again once.
        for _ in 0..2 {
            match self.policies.join(now.wall_ms, &self.groups[&group], &consumer) {
                Joined::In => break,
                Joined::TurnedAway => return Err(Rejection::TurnedAway),
                Joined::Failed(binding, failure) => {
                    self.policy_failed(now, binding, failure, effects);
                }
            }
        }
        let found = self.groups.get_mut(&group).expect("it was just found");
        found.attach(now.steady_ms, consumer);
        self.consumers.insert(key, (group, id));
        self.touch(group);
        Ok(())
    }

    pub(super) fn detach(
        &mut self,
        now: Now,
        key: Key,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Rejection> {
        let (group, id) = self.consumers.remove(&key).ok_or(Rejection::NoSubscription)?;
        let found = self.groups.get_mut(&group).expect("a consumer's group exists");
        found.leave(now.steady_ms, id, false, effects);
        self.touch(group);
        Ok(())
    }

    pub(super) fn disconnect(
        &mut self,
        now: Now,
        connection: ConnectionId,
        effects: &mut Vec<Effect>,
    ) {
        self.lines.remove(&connection);
        self.answers.forget(connection);
        let keys: Vec<Key> = self.consumers.range(of(connection)).map(|(&key, _)| key).collect();
        for key in keys {
            let Some((group, id)) = self.consumers.remove(&key) else { continue };
            let found = self.groups.get_mut(&group).expect("a consumer's group exists");
            found.leave(now.steady_ms, id, true, effects);
            self.touch(group);
        }
    }

    pub(super) fn pause(&mut self, connection: ConnectionId) {
        if let Some(line) = self.lines.get(&connection) {
            line.pause();
        }
    }

    pub(super) fn resume(&mut self, now: Now, connection: ConnectionId) {
        if self.lines.get(&connection).is_some_and(|line| line.resume()) {
            self.open_line(now, connection);
        }
    }

    /// The turn is over for the lines that got something in it. Those that were
    /// full go on in the next, which is due at once.
    pub(super) fn end_lines(&mut self, now: Now) {
        for line in std::mem::take(&mut self.lines_used) {
            if line.end_turn() {
                self.open_line(now, line.connection);
                self.unfinished_ms = Some(now.steady_ms);
            }
        }
    }

    /// The consumers of a connection may get more.
    fn open_line(&mut self, now: Now, connection: ConnectionId) {
        let all: Vec<_> = self.consumers.range(of(connection)).map(|(_, &found)| found).collect();
        for (group, id) in all {
            let found = self.groups.get_mut(&group).expect("a consumer's group exists");
            found.line_opened(now.steady_ms, id);
            self.touch(group);
        }
    }

    pub(super) fn credit(&mut self, now: Now, key: Key, amount: u32) {
        let Some(&(group, id)) = self.consumers.get(&key) else { return };
        let found = self.groups.get_mut(&group).expect("a consumer's group exists");
        found.credit(now.steady_ms, id, amount);
        self.touch(group);
    }

    pub(super) fn pull(
        &mut self,
        now: Now,
        key: Key,
        request: RequestId,
        (max, wait_ms): (u32, u32),
        effects: &mut Vec<Effect>,
    ) {
        let Some(&(group, id)) = self.consumers.get(&key) else {
            let reply = Reply::Rejected(Rejection::NoSubscription);
            return effects.push(Effect::Reply { connection: key.0, request, reply });
        };
        if max == 0 {
            let reply = Reply::Count { done: 0, unknown: 0 };
            return effects.push(Effect::Reply { connection: key.0, request, reply });
        }
        let found = self.groups.get_mut(&group).expect("a consumer's group exists");
        if found.consumers[&id].pulls.len() >= limits::PULLS_PER_CONSUMER_MAX {
            let over = Rejection::OverLimit(&Limit {
                what: "waiting pulls of one consumer",
                name: "pulls_per_consumer",
                most: limits::PULLS_PER_CONSUMER_MAX as u64,
            });
            let reply = Reply::Rejected(over);
            return effects.push(Effect::Reply { connection: key.0, request, reply });
        }
        found.pull(now.steady_ms, id, request, max, wait_ms);
        self.touch(group);
    }

    /// Settles deliveries; without any, answers when all that the consumer has settled
    /// before is done and kept.
    pub(super) fn settle(
        &mut self,
        now: Now,
        key: Key,
        request: Option<RequestId>,
        settlements: &[Settlement],
        effects: &mut Vec<Effect>,
    ) {
        let Some(&(group, id)) = self.consumers.get(&key) else {
            if let Some(request) = request {
                let reply = Reply::Rejected(Rejection::NoSubscription);
                self.answers.answer_in_turn((key.0, request), reply, effects);
            }
            return;
        };
        let found = self.groups.get_mut(&group).expect("a consumer's group exists");
        if let ([], Some(request)) = (settlements, request) {
            let Tally { done, unknown } = found.flush(id);
            let level = found.level;
            found.parts.iter().for_each(|part| self.store.sync(part.cursor, level));
            self.answers.hand_over(level);
            self.touch(group);
            let reply = Reply::Count { done, unknown };
            return self.answers.answer((key.0, request), reply, level, true);
        }
        found.asked = request.is_some();
        let Tally { done, unknown } = found.settle(now.steady_ms, id, settlements);
        found.asked = false;
        let level = found.level;
        self.touch(group);
        let Some(request) = request else { return };
        let reply = Reply::Count { done, unknown };
        let rejects = settlements.iter().any(|one| matches!(one.verb, Verb::Reject { .. }));
        // Only what ends a message is kept. (A rejected one for which there is no
        // room is dying until there is; that does not hold up the answer.)
        if done > 0 && (rejects || settlements.iter().any(|one| one.verb == Verb::Ack)) {
            self.answers.answer((key.0, request), reply, level, rejects);
        } else {
            self.answers.answer_in_turn((key.0, request), reply, effects);
        }
    }

    fn group_of(&mut self, source: &Source) -> Result<GroupId, Rejection> {
        match source {
            Source::Queue(id) => Ok(self.queue_mut(*id)?.group),
            Source::Group(id, name) => {
                self.stream_mut(*id)?.groups.get(name).copied().ok_or(Rejection::NotFound)
            }
        }
    }
}
