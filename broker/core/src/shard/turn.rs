//! The end of a turn: what was appended is handed to the store, what is stable
//! goes out, groups dispatch, policies are asked once each, and what they wish
//! is done. Rounds go on until nothing moves any more.

use std::collections::VecDeque;

use bytes::Bytes;
use weir_message::{Batch, BatchBuilder};

use super::policies::BindingId;
use super::{Destination, Owner, Shard};
use crate::command::{DestinationId, Level, QueueConfig};
use crate::dead_letter::{self, Why};
use crate::effect::Effect;
use crate::env::Now;
use crate::group::slot::{State, offset_of, partition_of};
use crate::group::{Dying, GroupId, Settled, refused};
use crate::limits;
use crate::name::Name;
use crate::policy::{Action, Event, Failure, ReadyMessage, event, refusal};
use crate::store::{Stamp, StoreError};

/// Rounds of one turn; what is left then waits for the next, so that a policy
/// that answers everything with another wish cannot hold the shard.
const ROUNDS_MAX: usize = 8;
/// When the next turn is due at the latest if this one left work behind, ms.
const PAUSE_MS: u64 = 1;

/// What became of messages on their way to the dead-letter queue.
enum Burial {
    Done,
    /// The queue does not take them.
    Refused,
    /// The store has no room for them now.
    NoSpace,
}

/// A ready message as a policy is shown it.
struct Shown {
    bytes: Bytes,
    offset: u64,
    time_ms: u64,
}

impl Shard {
    /// Ends the turn.
    ///
    /// # Errors
    /// What the store could not do. The shard must not be used any further: it
    /// may have taken what the store has not.
    pub fn commit(&mut self, now: Now, effects: &mut Vec<Effect>) -> Result<(), StoreError> {
        self.unfinished_ms = None;
        self.policies.forget_restarts();
        self.open_groups(now, effects);
        let mut worked: Vec<GroupId> = Vec::new();
        let mut last: Vec<GroupId> = Vec::new();
        for round in 0.. {
            self.hand_over_settled(&last);
            self.store.commit()?;
            self.answers.committed(&*self.store, effects);
            self.settle_publishes(now, effects);
            if self.dirty.is_empty() {
                break;
            }
            if round == ROUNDS_MAX {
                self.unfinished_ms = Some(now.steady_ms + PAUSE_MS);
                break;
            }
            let groups = std::mem::take(&mut self.dirty);
            for &id in &groups {
                self.work(now, id, effects);
            }
            let first = effects.len();
            self.step_policies(now, &groups, effects);
            self.answers.line_up(effects, first);
            worked.extend(&groups);
            last = groups;
        }
        worked.sort_unstable();
        worked.dedup();
        for id in worked {
            self.tidy(now, id, effects);
        }
        self.end_lines(now);
        self.tell_pressed(effects);
        if self.store.waits_for_another() {
            self.unfinished_ms.get_or_insert(now.steady_ms);
        }
        self.fault.take().map_or(Ok(()), Err)
    }

    /// One group's part of a round.
    fn work(&mut self, now: Now, id: GroupId, effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.dirty = false;
        if group.is_neglected(now.steady_ms)
            && let Some(binding) = group.decider.binding
        {
            let reason = format!(
                "left a ready message of {} undecided for too long",
                group.identity.full_name
            );
            self.give_up_policy(now, binding, reason, effects);
        }
        let dispatched = self.deliver_with(now, id, effects, |group, io| group.dispatch(io));
        if dispatched.is_none() {
            return;
        }
        let dying = match self.groups.get_mut(&id) {
            Some(group) => {
                // `with_group` marks it; what matters from here on marks it anew.
                group.dirty = false;
                self.dirty.retain(|&other| other != id);
                group.take_dying(now.steady_ms)
            }
            None => return,
        };
        if !dying.is_empty() {
            self.bury(now, id, dying, effects);
        }
    }

    /// Appends messages to the dead-letter queue, part by part, and settles each part at its
    /// source when it is there. What is not taken there is parked, what there is no room for
    /// now stays dying: it is never lost.
    fn bury(&mut self, now: Now, id: GroupId, dying: Vec<Dying>, effects: &mut Vec<Effect>) {
        let queue = self.dead_letter_queue(now, id, effects);
        let now_ms = now.steady_ms;
        let mut left = VecDeque::from(dying);
        while !left.is_empty() {
            let (batch, mut carried) = self.next_dead(now_ms, id, queue, &mut left);
            let burial = match queue {
                Some(queue) if !batch.is_empty() => self.append_dead(now, queue, batch),
                _ => Burial::Done,
            };
            let group = self.groups.get_mut(&id).expect("it was just there");
            match burial {
                Burial::Done => {
                    let carried = carried.into_iter();
                    carried.for_each(|one| group.dead_lettered(now_ms, one.message, one.asked));
                }
                Burial::Refused => {
                    carried.into_iter().for_each(|one| group.park(now_ms, one.message));
                }
                Burial::NoSpace => {
                    // Those behind it are not read before there may be room for this part.
                    carried.extend(left.drain(..));
                    group.bury_later(carried, now_ms + limits::BURY_AGAIN_MS);
                }
            }
        }
        self.touch(id);
    }

    /// Takes the first of the dying, as many as fit one batch, and makes them what the
    /// dead-letter queue gets. On the way, what cannot be read any more is lost, and what
    /// has no such queue is parked.
    fn next_dead(
        &mut self,
        now_ms: u64,
        id: GroupId,
        queue: Option<DestinationId>,
        dying: &mut VecDeque<Dying>,
    ) -> (Batch, Vec<Dying>) {
        let group = &self.groups[&id];
        let mut batch = BatchBuilder::default();
        let mut carried = Vec::new();
        let mut kept = Vec::new();
        let mut lost = Vec::new();
        while carried.len() < limits::BURY_BATCH_MESSAGES
            && let Some(one) = dying.pop_front()
        {
            let Dying { message, reason, .. } = &one;
            let (partition, offset) = (partition_of(*message), offset_of(*message));
            let log = group.parts[partition].log;
            let found = self.reader.find(&*self.store, log, offset);
            if matches!(found, Err(StoreError::Damaged { .. })) {
                lost.push(*message);
                continue;
            }
            let (Some(found), Some(_)) = (found.ok().flatten(), queue) else {
                kept.push(*message);
                continue;
            };
            let attempts = group.parts[partition].slots.get(offset).map_or(0, |slot| slot.attempts);
            let why = Why {
                reason,
                source: &group.identity.full_name,
                partition: (!group.identity.is_queue).then_some(partition as u16),
                offset,
                attempts,
            };
            let dead = dead_letter::with_reason(self.reader.bytes(found), &why);
            // One that is longer than a batch goes alone.
            if !batch.is_empty() && batch.bytes_len() + dead.len() > limits::BURY_BATCH_BYTES {
                dying.push_front(one);
                break;
            }
            batch.push(&dead);
            carried.push(one);
        }
        self.reader.clear();
        let group = self.groups.get_mut(&id).expect("it was just there");
        kept.into_iter().for_each(|message| group.park(now_ms, message));
        lost.into_iter().for_each(|message| group.lose(now_ms, message));
        (batch.take(), carried)
    }

    fn append_dead(&mut self, now: Now, id: DestinationId, batch: Batch) -> Burial {
        let Some(Destination::Queue(queue)) = self.destinations.get_mut(&id) else {
            return Burial::Refused;
        };
        let group = self.groups.get_mut(&queue.group).expect("a queue has a group");
        queue.count_freed(group, &*self.store);
        let kept = queue.messages(group, &*self.store);
        if queue.fitting(kept, batch.iter().map(<[u8]>::len)) < batch.len() {
            return Burial::Refused;
        }
        let (log, level) = (queue.log, queue.config.level);
        group.level = group.level.max(level);
        let from = self.store.bounds(log).end;
        let (count, bytes) = (batch.len() as u64, batch.bytes.len() as u64);
        let stamp = Stamp { time_ms: now.wall_ms, due_ms: 0 };
        match self.store.append(log, from, stamp, batch, level) {
            Ok(()) => {}
            Err(StoreError::NoSpace) => return Burial::NoSpace,
            Err(error) => {
                self.note_fault(error);
                return Burial::Refused;
            }
        }
        queue.published += count;
        queue.bytes += bytes;
        Burial::Done
    }

    /// The dead-letter queue of a group, made when it is not there.
    fn dead_letter_queue(
        &mut self,
        now: Now,
        id: GroupId,
        effects: &mut Vec<Effect>,
    ) -> Option<DestinationId> {
        let name = dead_letter::queue_name(&self.groups.get(&id)?.identity.full_name)?;
        // One that no client may name is of no use to anybody, and no start would take it.
        Name::parse(&name).ok()?;
        if let Some(&id) = self.names.get(name.as_str()) {
            return matches!(self.destinations[&id], Destination::Queue(_)).then_some(id);
        }
        let id = DestinationId(Some(self.ids.start).filter(|id| self.ids.contains(id))?);
        let level = Level::Disk.min(self.store.level_max());
        let config = QueueConfig { messages_max: 0, bytes_max: 0, level, order: 0 };
        self.create_queue(now, id, name.clone(), config);
        if !self.destinations.contains_key(&id) {
            return None;
        }
        self.open_groups(now, effects);
        effects.push(Effect::QueueMade { name, id });
        Some(id)
    }

    /// Tells each policy what happened to its groups, one call each, and does
    /// what it wishes.
    fn step_policies(&mut self, now: Now, groups: &[GroupId], effects: &mut Vec<Effect>) {
        let speaks = |id: &&GroupId| {
            let group = self.groups.get(*id);
            group.is_some_and(|group| !group.events.is_empty())
        };
        let mut speaking: Vec<(BindingId, GroupId)> = groups
            .iter()
            .filter(speaks)
            .filter_map(|&id| Some((self.groups[&id].decider.binding?, id)))
            .collect();
        speaking.sort_unstable();
        speaking.dedup();
        for of_one in speaking.chunk_by(|one, other| one.0 == other.0) {
            let mut ids: Vec<GroupId> = of_one.iter().map(|&(_, id)| id).collect();
            let binding = of_one[0].0;
            self.policies.take_turns(binding, &mut ids);
            self.step_policy(now, binding, &ids, effects);
        }
    }

    fn step_policy(
        &mut self,
        now: Now,
        binding: BindingId,
        ids: &[GroupId],
        effects: &mut Vec<Effect>,
    ) {
        let mut events = Vec::new();
        let mut shown = Vec::new();
        let mut served = ids[0];
        for &id in ids {
            let before = events.len();
            self.collect_events(id, binding, &mut events, &mut shown);
            if events.len() > before {
                served = id;
            }
            if self.groups.get(&id).is_some_and(|group| !group.events.is_empty()) {
                self.policies.note_served(binding, served);
                break;
            }
        }
        if events.is_empty() {
            return;
        }
        let ready: Vec<ReadyMessage<'_>> = shown
            .iter()
            .map(|one| ReadyMessage { bytes: &one.bytes, offset: one.offset, time_ms: one.time_ms })
            .collect();
        let mut actions = Vec::new();
        match self.policies.step(binding, now.wall_ms, &events, &ready, &mut actions) {
            Ok(()) => {
                for some in actions.chunk_by(|one, other| one.group == other.group) {
                    self.grant(now, binding, ids[0], some, effects);
                }
            }
            // What it did not take in it is told anew, with all the rest.
            Err(Failure::Refused(reason)) => {
                ids.iter().for_each(|&id| self.policies.close(binding, now.wall_ms, id));
                self.policy_failed(now, binding, Failure::Restarted(reason), effects);
            }
            Err(failure) => self.policy_failed(now, binding, failure, effects),
        }
        // What did not fit into the call, and what the wishes led to.
        for &id in ids {
            let group = self.groups.get(&id);
            if group.is_some_and(|group| !group.events.is_empty()) {
                self.touch(id);
            }
        }
    }

    /// Moves a group's events into a call, with the messages of those that are
    /// ready, as many as one call may show.
    fn collect_events(
        &mut self,
        id: GroupId,
        binding: BindingId,
        events: &mut Vec<Event>,
        shown: &mut Vec<Shown>,
    ) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.decider.binding != Some(binding) {
            return;
        }
        if !self.policies.reads_messages(binding) {
            // What is gone meanwhile is told too: a wish for it is refused.
            let room = self.policies.events_max(binding).saturating_sub(events.len());
            events.extend(group.events.drain(..group.events.len().min(room)));
            return;
        }
        let mut taken = 0;
        for &told in &group.events {
            if told.kind == event::READY {
                if shown.len() == limits::POLICY_BATCH_ROWS {
                    break;
                }
                let part = &group.parts[partition_of(told.message)];
                let offset = offset_of(told.message);
                let live = part.slots.get(offset).is_some();
                let found = self.reader.find(&*self.store, part.log, offset).ok().flatten();
                if let Some(found) = found.filter(|_| live) {
                    let records = self.reader.piece(found);
                    let (from, to) =
                        (records.batch.start(found.row), records.batch.ends[found.row]);
                    let bytes = records.batch.bytes.slice(from..to as usize);
                    shown.push(Shown { bytes, offset, time_ms: records.time_ms });
                    events.push(told);
                }
            } else {
                events.push(told);
            }
            taken += 1;
        }
        group.events.drain(..taken);
        self.reader.clear();
    }

    /// Does what a policy wishes for one group.
    fn grant(
        &mut self,
        now: Now,
        binding: BindingId,
        told: GroupId,
        actions: &[Action],
        effects: &mut Vec<Effect>,
    ) {
        let id = actions[0].group;
        let group = self.groups.get(&id);
        if group.is_some_and(|group| group.decider.binding == Some(binding)) {
            self.deliver_with(now, id, effects, |group, io| group.wish(io, actions));
            return;
        }
        // Not a group of this policy: said to one that is.
        let Some(group) = self.groups.get_mut(&told) else { return };
        for wish in actions {
            group.counters.refused_actions += 1;
            if group.plan.interest >> event::REFUSED & 1 == 1 {
                group.events.push(refused(wish, refusal::NO_MESSAGE));
            }
        }
    }

    /// Tells the store what the groups with work, and those that have just worked,
    /// have settled: the round's commit keeps it.
    fn hand_over_settled(&mut self, worked: &[GroupId]) {
        for at in 0..self.dirty.len() {
            self.release_settled(self.dirty[at]);
        }
        worked.iter().for_each(|&id| self.release_settled(id));
    }

    /// Tells the store what one group has settled.
    pub(super) fn release_settled(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id).filter(|group| !group.settled.is_empty()) else {
            return;
        };
        // Consumers who take turns settle neighbours: together they are one stretch.
        let place = |one: &Settled| (one.partition, one.level, one.from);
        if !group.settled.is_sorted_by_key(place) {
            group.settled.sort_unstable_by_key(place);
        }
        group.settled.dedup_by(|next, before| before.join(next));
        let mut partitions = Vec::new();
        for Settled { partition, from, to, level } in group.settled.drain(..) {
            let cursor = group.parts[usize::from(partition)].cursor;
            self.store.release(cursor, from, to, level);
            self.answers.hand_over(level);
            if partitions.last() != Some(&partition) {
                partitions.push(partition);
            }
        }
        for partition in partitions {
            let part = &group.parts[usize::from(partition)];
            let floor = part.floor(self.store.bounds(part.log).stable);
            if floor > self.store.bounds(part.cursor).start {
                self.store.trim(part.cursor, floor);
            }
        }
    }

    /// Ends the group's part of the turn, and arms its deadline.
    fn tidy(&mut self, now: Now, id: GroupId, effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let (first, promised) = (effects.len(), group.in_state(State::Promised));
        group.end_pulls(now.steady_ms, effects);
        self.answers.line_up(effects, first);
        // What was promised to a pull waits to be chosen again: in a turn of its own.
        let is_left = group.in_state(State::Promised) < promised;
        let next_ms = group.next_deadline_ms();
        if next_ms != group.armed_ms {
            self.deadlines.remove(&(group.armed_ms, Owner::Group(id)));
            group.armed_ms = next_ms;
            if next_ms != u64::MAX {
                self.deadlines.insert((next_ms, Owner::Group(id)));
            }
        }
        if is_left {
            self.touch(id);
            self.unfinished_ms = Some(now.steady_ms + PAUSE_MS);
        }
    }
}
