//! A group: consumers that read one log (or the partitions of a stream)
//! together, each message settled once for all of them.
//!
//! Owned by the shard, one per queue and any number per stream. It knows which
//! messages were taken from the log and where each is: ready, offered to the
//! policy, blocked behind one of its key, in flight, delayed, parked or dying.
//! What the group has not taken yet lies in the log behind `Part::slots.next()`.
//! Invariants: a message is in exactly one of these states; it leaves only by
//! being settled, dead-lettered, dropped by a power, purged, removed by retention
//! or left out, unsettled, because it cannot be read; nothing here outlives the
//! store's stable position.

#[cfg(test)]
mod books;
pub(crate) mod consumer;
mod deliver;
mod dispatch;
mod failure;
#[cfg(test)]
mod fixture;
mod gone;
mod intake;
mod lanes;
pub(crate) mod line;
mod losses;
mod members;
pub(crate) mod part;
mod promises;
mod ready;
mod replay;
mod ring;
mod settle;
pub(crate) mod slot;
mod stats;
mod superseded;
mod timers;
mod wishes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::command::Level;
use crate::effect::Effect;
use crate::env::Now;
use crate::limits;
use crate::policy::{Event, Generation, Plan, Powers, event};
use crate::reader::Reader;
use crate::shard::filters::{FilterId, Filters};
use crate::shard::policies::BindingId;
use crate::store::Store;
use consumer::{Consumer, ConsumerId, Delivery};
use intake::Intake;
use lanes::{Lanes, lane_of};
use line::Line;
use part::Part;
use ready::ReadyList;
pub(crate) use replay::checked as checked_plan;
use slot::{MessageId, STATES, Slot, State, offset_of, partition_of};
pub(crate) use stats::Counters;
use timers::LazyTimers;
pub(crate) use wishes::refused;

/// Number of a group, unique in the shard; policies know it by this.
pub(crate) type GroupId = u32;

/// What a group needs from its shard while it works.
pub(crate) struct Io<'a> {
    pub(crate) now: Now,
    pub(crate) store: &'a mut dyn Store,
    pub(crate) reader: &'a mut Reader,
    pub(crate) filters: &'a mut Filters,
    pub(crate) effects: &'a mut Vec<Effect>,
}

/// A message on its way to the dead-letter queue; the shard carries it there.
#[derive(Clone, Debug)]
pub(crate) struct Dying {
    pub(crate) message: MessageId,
    pub(crate) reason: String,
    /// Somebody waits to hear that it is safe.
    pub(crate) asked: bool,
}

/// Neighbours that are settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) partition: u16,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// How safely that is to be kept.
    pub(crate) level: Level,
}

impl Settled {
    /// Takes `next` in, if it is what follows.
    pub(crate) fn join(&mut self, next: &Self) -> bool {
        let follows =
            (self.partition, self.level, self.to) == (next.partition, next.level, next.from);
        if follows {
            self.to = next.to;
        }
        follows
    }
}

/// Neighbours meant for a consumer, with their room reserved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    /// The first.
    message: MessageId,
    count: u32,
    consumer: ConsumerId,
    attempts: u16,
    /// Length of the first, bytes.
    bytes: u32,
    pulled: bool,
    lease_ms: u32,
}

/// Who a group is, for policies and people.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// `queue` or `stream/group`.
    pub(crate) full_name: Arc<str>,
    /// Length of the queue's or stream's name in it.
    subject_len: u32,
    /// JSON text or "".
    pub(crate) options: Box<str>,
    /// The only group of a queue: what it settles leaves the log.
    pub(crate) is_queue: bool,
}

impl Identity {
    pub(crate) fn of_queue(name: Arc<str>) -> Self {
        let subject_len = name.len() as u32;
        Self { full_name: name, subject_len, options: "".into(), is_queue: true }
    }

    pub(crate) fn of_group(stream: &str, group: &str, options: &str) -> Self {
        Self {
            full_name: format!("{stream}/{group}").into(),
            subject_len: stream.len() as u32,
            options: options.into(),
            is_queue: false,
        }
    }

    /// Name of the queue or stream.
    pub(crate) fn subject(&self) -> &str {
        &self.full_name[..self.subject_len as usize]
    }

    /// Name of the group; "" for a queue's only one.
    pub(crate) fn name(&self) -> &str {
        self.full_name.get(self.subject_len as usize + 1..).unwrap_or_default()
    }
}

/// Who decides for a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decider {
    /// `None`: the built-in plan.
    pub(crate) binding: Option<BindingId>,
    /// `None`: the built-in plan, or that in place of a binding that failed for good.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) generation: Generation,
    pub(crate) powers: Powers,
    /// What it has said last about how safely messages of a subject are kept.
    pub(crate) classified: Option<Box<Classified>>,
}

/// A delivery policy's class of one subject.
#[derive(Clone, Debug)]
pub(crate) struct Classified {
    /// What messages of the subject begin with, up to its end.
    pub(crate) head: Box<[u8]>,
    /// `None`: as the operator has chosen.
    pub(crate) level: Option<Level>,
}

/// What the calls on a group work with, kept for the next.
#[derive(Debug, Default)]
struct Scratch {
    taken: Vec<(u64, Delivery)>,
    tags: Vec<u64>,
    picks: Vec<Pick>,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) identity: Identity,
    pub(crate) decider: Decider,
    pub(crate) plan: Plan,
    /// The operator's order; the plan's is raised to it.
    pub(crate) order_floor: u8,
    pub(crate) filters: Box<[FilterId]>,
    pub(crate) parts: Vec<Part>,
    pub(crate) consumers: BTreeMap<ConsumerId, Consumer>,
    pub(crate) counters: Counters,
    /// Told to the policy at the end of the turn.
    pub(crate) events: Vec<Event>,
    pub(crate) dying: Vec<Dying>,
    /// Stretches not yet told to the store.
    pub(crate) settled: Vec<Settled>,
    /// How safely the messages are kept: the safest of them.
    pub(crate) level: Level,
    /// Somebody waits to hear that what is settled now is safe.
    pub(crate) asked: bool,
    /// Bytes of messages that left since the queue last asked.
    pub(crate) freed_bytes: u64,
    /// Messages that could not be read back.
    pub(crate) lost: losses::Losses,
    /// Lines that got their first message of this turn here.
    pub(crate) lines: Vec<Arc<Line>>,
    /// In the shard's list of groups with work.
    pub(crate) dirty: bool,
    /// When the shard wakes the group, steady ms; `u64::MAX` for never.
    pub(crate) armed_ms: u64,
    counts: [u32; STATES],
    live_bytes: u64,
    lanes: Lanes,
    ready: ReadyList,
    /// Consumers that may have room, in turn.
    turn: VecDeque<ConsumerId>,
    timers: LazyTimers,
    /// Since when some consumer has room, steady ms.
    room_since_ms: u64,
    next_tick_ms: u64,
    intake: Intake,
    touched: Vec<ConsumerId>,
    scratch: Option<Box<Scratch>>,
}

impl Group {
    /// A group that reads `parts`, whose messages are kept at `level`, on the
    /// built-in plan.
    pub(crate) fn new(
        id: GroupId,
        identity: Identity,
        order_floor: u8,
        level: Level,
        parts: Vec<Part>,
    ) -> Self {
        let mut group = Self {
            id,
            identity,
            decider: Decider::default(),
            plan: Plan::AT_LEAST_ONCE,
            order_floor,
            filters: Box::default(),
            parts,
            consumers: BTreeMap::new(),
            counters: Counters::default(),
            events: Vec::new(),
            dying: Vec::new(),
            settled: Vec::new(),
            level,
            asked: false,
            freed_bytes: 0,
            lost: losses::Losses::default(),
            lines: Vec::new(),
            dirty: false,
            armed_ms: u64::MAX,
            counts: [0; STATES],
            live_bytes: 0,
            lanes: Lanes::default(),
            ready: ReadyList::default(),
            turn: VecDeque::new(),
            timers: LazyTimers::default(),
            room_since_ms: 0,
            next_tick_ms: u64::MAX,
            intake: Intake::default(),
            touched: Vec::new(),
            scratch: None,
        };
        group.plan.order = group.plan.order.max(order_floor);
        group
    }

    /// Whether more messages change nothing: nobody is there to get them, and the
    /// policy wants to hear of none.
    pub(crate) fn rests(&self) -> bool {
        self.consumers.is_empty()
            && self.plan.interest == 0
            && self.events.is_empty()
            && self.dying.is_empty()
    }

    /// Messages taken and not settled.
    pub(crate) fn live(&self) -> usize {
        self.counts.iter().map(|&count| count as usize).sum()
    }

    /// Number of messages in one state.
    pub(crate) fn in_state(&self, state: State) -> usize {
        self.counts[state as usize] as usize
    }

    /// Bytes of them.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Tells the policy, when it wants to hear of that kind.
    fn tell(&mut self, told: Event) {
        if self.plan.interest >> told.kind & 1 == 1 {
            self.events.push(Event { group: self.id, ..told });
        }
    }

    fn slot(&self, message: MessageId) -> Option<&Slot> {
        self.parts.get(partition_of(message))?.slots.get(offset_of(message))
    }

    fn slot_mut(&mut self, message: MessageId) -> Option<&mut Slot> {
        self.parts.get_mut(partition_of(message))?.slots.get_mut(offset_of(message))
    }

    /// Changes the state of a message; its old place in a set is the caller's.
    fn set_state(&mut self, message: MessageId, state: State, mark_ms: u64) {
        let slot = self.parts[partition_of(message)].slots.get_mut(offset_of(message));
        let slot = slot.expect("the message is live");
        self.counts[slot.state as usize] -= 1;
        self.counts[state as usize] += 1;
        slot.state = state;
        slot.mark_ms = mark_ms;
    }

    /// A message that waits now stands first in its lane: a consumer may have it.
    fn make_eligible(&mut self, now_ms: u64, message: MessageId, again: bool) {
        let slot = *self.slot(message).expect("the message is live");
        if slot.state == State::Blocked && slot.mark_ms > now_ms {
            return self.delay(message, slot.mark_ms);
        }
        if self.plan.chooser == 0 {
            self.set_state(message, State::Offered, now_ms);
            self.timers.offers.push_back((now_ms, message));
        } else {
            self.set_state(message, State::Ready, 0);
            if again {
                self.ready.push_again(message);
            } else {
                self.ready.push_fresh(message, 1);
            }
        }
        self.tell_ready(message, &slot);
    }

    fn tell_ready(&mut self, message: MessageId, slot: &Slot) {
        let (attempt, value) = (slot.attempts, slot.key_hash);
        self.tell(Event { kind: event::READY, attempt, value, message, ..Event::default() });
    }

    /// A message of the lane's head waits until `due_ms`.
    fn delay(&mut self, message: MessageId, due_ms: u64) {
        self.set_state(message, State::Delayed, due_ms);
        self.timers.delayed.insert((due_ms, message));
    }

    /// Takes a waiting message out of the set its state keeps it in.
    fn unlist(&mut self, message: MessageId, slot: &Slot) {
        match slot.state {
            State::Delayed => drop(self.timers.delayed.remove(&(slot.mark_ms, message))),
            State::Ready => self.ready.remove_again(message),
            _ => {}
        }
    }

    /// The message's place in its lane becomes free.
    fn leave_lane(&mut self, now_ms: u64, message: MessageId, slot: &Slot) {
        let Some(key) = lane_of(self.plan.order, slot) else { return };
        match slot.state {
            State::Parked => {}
            State::Blocked => self.lanes.give_up_place(key, message),
            _ => {
                if let Some(next) = self.lanes.leave(key) {
                    self.make_eligible(now_ms, next, true);
                }
            }
        }
    }

    /// The message is settled for the whole group: nothing of it stays.
    fn finish(&mut self, now_ms: u64, message: MessageId) {
        if self.take_out(now_ms, message) {
            let offset = offset_of(message);
            self.note_settled(partition_of(message) as u16, offset, offset + 1);
        }
    }

    /// Nothing of the message stays in the group. Whether it was there.
    fn take_out(&mut self, now_ms: u64, message: MessageId) -> bool {
        let slots = &mut self.parts[partition_of(message)].slots;
        let Some(slot) = slots.remove(offset_of(message)) else { return false };
        self.counts[slot.state as usize] -= 1;
        self.live_bytes -= u64::from(slot.bytes);
        self.freed_bytes += u64::from(slot.bytes);
        self.unlist(message, &slot);
        self.leave_lane(now_ms, message, &slot);
        true
    }

    /// `from..to` is settled: the store is told at the end of the round.
    fn note_settled(&mut self, partition: u16, from: u64, to: u64) {
        let level = if self.asked { self.level } else { self.level.min(Level::Os) };
        let new = Settled { partition, from, to, level };
        if !self.settled.last_mut().is_some_and(|last| last.join(&new)) {
            self.settled.push(new);
        }
    }

    /// Holds a message until an operator or the policy acts.
    pub(crate) fn park(&mut self, now_ms: u64, message: MessageId) {
        let Some(&slot) = self.slot(message) else { return };
        if slot.released {
            return self.gone(now_ms, message);
        }
        self.unlist(message, &slot);
        self.set_state(message, State::Parked, 0);
        self.leave_lane(now_ms, message, &slot);
    }

    /// Sends a message on its way to the dead-letter queue.
    fn dead_letter(&mut self, message: MessageId, reason: String) {
        let Some(&slot) = self.slot(message) else { return };
        self.unlist(message, &slot);
        // Until it is buried it holds up its lane, wherever it stood.
        match (slot.state, lane_of(self.plan.order, &slot)) {
            (State::Blocked, Some(key)) => {
                self.lanes.give_up_place(key, message);
                self.lanes.enter_busy(key);
            }
            (State::Parked, Some(key)) => self.lanes.enter_busy(key),
            _ => {}
        }
        self.set_state(message, State::Dying, 0);
        self.dying.push(Dying { message, reason, asked: self.asked });
    }

    /// The dead-letter queue has it.
    pub(crate) fn dead_lettered(&mut self, now_ms: u64, message: MessageId, asked: bool) {
        self.counters.dead_lettered += 1;
        self.asked = asked;
        self.finish(now_ms, message);
        self.asked = false;
    }

    /// There is no room for the dying now: they are tried again at `bury_ms`.
    pub(crate) fn bury_later(&mut self, dying: Vec<Dying>, bury_ms: u64) {
        self.dying.splice(0..0, dying);
        self.timers.bury_ms = bury_ms;
    }

    /// The dying, when they may be carried away.
    pub(crate) fn take_dying(&mut self, now_ms: u64) -> Vec<Dying> {
        if now_ms < self.timers.bury_ms {
            return Vec::new();
        }
        std::mem::take(&mut self.dying)
    }

    /// Puts a message that comes back (from a consumer, from its delay, from the
    /// park) in line again, after `delay_ms`.
    fn put_back(&mut self, now_ms: u64, message: MessageId, delay_ms: u64) {
        let Some(&slot) = self.slot(message) else { return };
        if slot.released {
            return self.gone(now_ms, message);
        }
        self.unlist(message, &slot);
        if let Some(slot) = self.slot_mut(message) {
            (slot.holders, slot.fate) = (0, slot::Fate::Again);
        }
        let due_ms = now_ms + delay_ms.min(limits::TIMER_MS_MAX);
        let lane = lane_of(self.plan.order, &slot);
        let first = match (lane, slot.state) {
            (None, _) => true,
            (Some(_), State::Blocked) => return,
            (Some(key), State::Parked) => self.lanes.enter(key, message),
            (Some(_), _) if delay_ms > 0 => true,
            (Some(key), _) => self.lanes.come_back(key, message),
        };
        if !first {
            self.set_state(message, State::Blocked, due_ms);
        } else if delay_ms > 0 {
            self.delay(message, due_ms);
        } else {
            self.make_eligible(now_ms, message, true);
        }
    }
}
