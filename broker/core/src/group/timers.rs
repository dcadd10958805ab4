//! What waits for its time in a group, and what the group does when that has come.

use std::collections::{BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};

use super::Group;
use super::consumer::ConsumerId;
use super::failure::Ending;
use super::slot::{Fate, MessageId, State};
use crate::effect::Effect;
use crate::policy::{Event, event};

/// How long a ready message may stay undecided where the plan says nothing, ms.
const UNDECIDED_MS: u64 = 5_000;

/// What waits, by the moment in ms of the steady clock.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) delayed: BTreeSet<(u64, MessageId)>,
    /// Copies of single consumers that wait for their time (`spread` 1).
    pub(super) delayed_copies: BTreeSet<(u64, ConsumerId, MessageId)>,
    pub(super) lease_checks: BTreeSet<(u64, ConsumerId)>,
    pub(super) pull_ends: BTreeSet<(u64, ConsumerId)>,
    /// When promises are looked at: not later than the first of the consumer's is over.
    pub(super) promise_checks: BTreeSet<(u64, ConsumerId)>,
    pub(super) offers: VecDeque<(u64, MessageId)>,
    /// Timers of the policy: when, number, token.
    pub(super) wakes: BTreeSet<(u64, u64, u64)>,
    pub(super) wakes_made: u64,
    /// When the dying are tried again, because there was no room for them.
    pub(super) bury_ms: u64,
}

impl Timers {
    const fn new() -> Self {
        Self {
            delayed: BTreeSet::new(),
            delayed_copies: BTreeSet::new(),
            lease_checks: BTreeSet::new(),
            pull_ends: BTreeSet::new(),
            promise_checks: BTreeSet::new(),
            offers: VecDeque::new(),
            wakes: BTreeSet::new(),
            wakes_made: 0,
            bury_ms: 0,
        }
    }
}

/// [`Timers`] that take no room until there is one: an idle queue has none.
#[derive(Debug, Default)]
pub(super) struct LazyTimers(Option<Box<Timers>>);

impl LazyTimers {
    /// Takes some of them out, if there are any.
    pub(super) fn forget(&mut self, some: impl FnOnce(&mut Timers)) {
        self.0.as_deref_mut().map(some);
    }
}

impl Deref for LazyTimers {
    type Target = Timers;

    fn deref(&self) -> &Timers {
        static NONE: Timers = Timers::new();
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for LazyTimers {
    fn deref_mut(&mut self) -> &mut Timers {
        self.0.get_or_insert_with(|| Box::new(Timers::new()))
    }
}

impl Group {
    /// Does what is due. Leases end, delays are over, pulls are answered.
    pub(crate) fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        self.end_leases(now_ms);
        self.end_delays(now_ms);
        self.end_pulls(now_ms, effects);
        self.end_promises(now_ms);
        self.ring_timers(now_ms);
    }

    /// When the group wants to be looked at next, steady ms; `u64::MAX` for never.
    pub(crate) fn next_deadline_ms(&mut self) -> u64 {
        let firsts = [
            self.timers.delayed.first().map(|first| first.0),
            self.timers.delayed_copies.first().map(|first| first.0),
            self.timers.lease_checks.first().map(|first| first.0),
            self.timers.pull_ends.first().map(|first| first.0),
            self.timers.promise_checks.first().map(|first| first.0),
            self.timers.wakes.first().map(|first| first.0),
            self.watch_ms(),
            (!self.dying.is_empty()).then_some(self.timers.bury_ms),
            Some(self.next_tick_ms),
        ];
        firsts.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    fn end_leases(&mut self, now_ms: u64) {
        while let Some(&(at, id)) = self.timers.lease_checks.first() {
            if at > now_ms {
                break;
            }
            self.timers.lease_checks.pop_first();
            let mut scratch = self.scratch.take().unwrap_or_default();
            let tags = &mut scratch.tags;
            tags.clear();
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            consumer.ended_leases(now_ms, tags);
            consumer.check_ms = consumer.next_lease_end();
            if consumer.check_ms != u64::MAX {
                self.timers.lease_checks.insert((consumer.check_ms, id));
            }
            for &tag in &*tags {
                let consumer = self.consumers.get_mut(&id).expect("it was there");
                let Some(delivery) = consumer.take(tag) else { continue };
                self.counters.expired += 1;
                let (message, attempt) = (delivery.message, delivery.attempts.saturating_add(1));
                let kind = event::EXPIRED;
                self.tell(Event { kind, consumer: id, message, attempt, ..Event::default() });
                self.tell_credit(id, u32::from(!delivery.pulled));
                self.take_back(now_ms, id, &delivery, Ending::Failed { delay_ms: 0 });
            }
            self.scratch = Some(scratch);
            self.open(now_ms, id);
        }
    }

    fn end_delays(&mut self, now_ms: u64) {
        while let Some(&(due_ms, message)) = self.timers.delayed.first() {
            if due_ms > now_ms {
                break;
            }
            self.put_back(now_ms, message, 0);
        }
        while let Some(&(due_ms, id, message)) = self.timers.delayed_copies.first() {
            if due_ms > now_ms {
                break;
            }
            self.timers.delayed_copies.pop_first();
            match self.consumers.get_mut(&id) {
                Some(consumer) => {
                    consumer.waiting.insert(message);
                    self.open(now_ms, id);
                }
                None => self.end_copy(now_ms, message, Fate::Again, ""),
            }
        }
    }

    /// Answers the pulls whose time is over. Those of a line that takes nothing wait
    /// until it does, so that they get what is there.
    pub(crate) fn end_pulls(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        while let Some(&(until_ms, id)) = self.timers.pull_ends.first() {
            if until_ms > now_ms {
                break;
            }
            self.timers.pull_ends.pop_first();
            if self.consumers.get(&id).is_some_and(|consumer| !consumer.line.is_open()) {
                continue;
            }
            self.answer_pulls(now_ms, id, true, effects);
        }
    }

    fn ring_timers(&mut self, now_ms: u64) {
        while let Some(&(at, number, token)) = self.timers.wakes.first() {
            if at > now_ms {
                break;
            }
            self.timers.wakes.remove(&(at, number, token));
            self.tell(Event { kind: event::WOKE, message: token, ..Event::default() });
        }
        if self.next_tick_ms <= now_ms {
            self.next_tick_ms = now_ms + u64::from(self.plan.tick_ms.max(1));
            self.tell(Event { kind: event::TICK, ..Event::default() });
        }
    }

    /// When the oldest undecided message has waited too long, steady ms.
    fn watch_ms(&mut self) -> Option<u64> {
        if self.plan.chooser != 0 || !self.any_open() {
            return None;
        }
        let allowed_ms = match self.plan.undecided_ms_max {
            0 => UNDECIDED_MS,
            allowed => u64::from(allowed),
        };
        while let Some(&(since_ms, message)) = self.timers.offers.front() {
            let slot = self.slot(message);
            if slot.is_some_and(|slot| slot.state == State::Offered && slot.mark_ms == since_ms) {
                return Some(since_ms.max(self.room_since_ms) + allowed_ms);
            }
            self.timers.offers.pop_front();
        }
        None
    }

    /// Whether the policy has left a message undecided for too long although a
    /// consumer has room for it.
    pub(crate) fn is_neglected(&mut self, now_ms: u64) -> bool {
        self.watch_ms().is_some_and(|at| at <= now_ms)
    }
}
