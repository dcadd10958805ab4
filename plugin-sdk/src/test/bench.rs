//! A small broker for delivery policies: one group, its messages and consumers, a
//! clock that only the test moves. It carries a plan out as the broker does, tells
//! the policy of what it wants to hear, and checks each wish. What a policy can
//! get wrong in production it gets wrong here.
//!
//! Spreading to every consumer is not played: [`Bench::open`] refuses such plans.

use super::{TestMessage, columns, key_hash};
use crate::bindings::exports::weir::policy::dispatching as wire;
use crate::delivery::{Consumer, ConsumerId, Delivery, Group, GroupId, MessageId};
use crate::hash::Random;
use crate::manifest::Manifest;
use crate::step::{EventRow, step_batch};
use std::collections::VecDeque;

mod rules;

/// What happened to a message in the end, or where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Ready from this time on, ms.
    Waiting(u64),
    /// With a consumer, until this time, ms.
    InFlight(ConsumerId, u64),
    /// Settled by its consumer, or at hand-over.
    Settled,
    /// Held for an operator.
    Parked,
    /// In the dead-letter queue.
    DeadLettered,
    /// Settled undelivered.
    Dropped,
}

/// One hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Which message.
    pub message: MessageId,
    /// To whom.
    pub consumer: ConsumerId,
    /// Counted from 1.
    pub attempt: u16,
    /// When, ms.
    pub at_ms: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    message: TestMessage,
    key_hash: Option<u32>,
    attempts: u16,
    fate: Fate,
    /// Taken from the log: it has a place in the window while it is ready.
    taken: bool,
    /// The policy has heard that it is ready.
    shown: bool,
    /// Before all others of its line, until it has ended or is parked.
    first: bool,
}

#[derive(Clone, Debug)]
struct Member {
    id: ConsumerId,
    credit: u32,
    in_flight: u32,
    here: bool,
}

/// Rounds of events and wishes before a policy counts as caught in a circle.
const ROUNDS_MAX: usize = 1_000;
/// Longest lease or delay, ms: what the broker cuts longer ones to.
const TIMER_MS_MAX: u64 = 7 * 24 * 3_600 * 1_000;
/// Timers that a policy may have open.
const WAKES_MAX: usize = 10_000;
const GROUP: GroupId = GroupId(1);

/// The small broker.
#[derive(Debug)]
pub struct Bench<'p, D> {
    policy: &'p mut D,
    manifest: Manifest,
    plan: wire::Plan,
    now_ms: u64,
    entries: Vec<Entry>,
    members: Vec<Member>,
    next_turn: usize,
    events: VecDeque<EventRow>,
    wakes: Vec<(u64, u64)>,
    deliveries: Vec<Delivered>,
    settled: Vec<MessageId>,
    refusals: Vec<u8>,
    next_tick_ms: u64,
}

impl<'p, D: Delivery> Bench<'p, D> {
    /// Opens a group with this policy, at time 0; the clock of this thread is set to it.
    ///
    /// # Errors
    /// What the policy says against it, or the broker against the policy's manifest.
    pub fn open(policy: &'p mut D) -> Result<Self, String> {
        super::set_clock_ms(0);
        let manifest = D::manifest();
        rules::check_columns(&manifest)?;
        let group =
            Group { id: GROUP, name: "bench".into(), subject: "bench".into(), options: "".into() };
        let plan = rules::carried_out(policy.open(&group)?, &manifest);
        if plan.spread != 0 {
            return Err("the bench does not play plans that spread to every consumer".to_owned());
        }
        let next_tick_ms = u64::from(plan.tick_ms);
        let mut bench = Self {
            policy,
            manifest,
            plan,
            now_ms: 0,
            entries: Vec::new(),
            members: Vec::new(),
            next_turn: 0,
            events: VecDeque::new(),
            wakes: Vec::new(),
            deliveries: Vec::new(),
            settled: Vec::new(),
            refusals: Vec::new(),
            next_tick_ms,
        };
        bench.tell(14, 0, 0, 0, 0, 0);
        bench.turn();
        Ok(bench)
    }

    /// A consumer joins with this much credit.
    ///
    /// # Errors
    /// When the policy turns it away.
    pub fn join(&mut self, name: &str, credit: u32) -> Result<ConsumerId, String> {
        let id = ConsumerId(self.members.len() as u32 + 1);
        let consumer = Consumer { group: GROUP, id, name: name.to_owned(), labels: String::new() };
        self.policy.join(&consumer)?;
        self.members.push(Member { id, credit, in_flight: 0, here: true });
        self.tell(5, 0, 0, id.0, credit, 0);
        self.turn();
        Ok(id)
    }

    /// A consumer says goodbye; what it held is ready again at once.
    pub fn leave(&mut self, consumer: ConsumerId) {
        self.part(consumer, 0);
    }

    /// A consumer is lost; what it held is tried again by the plan.
    pub fn lose(&mut self, consumer: ConsumerId) {
        self.part(consumer, 1);
    }

    fn part(&mut self, consumer: ConsumerId, code: u8) {
        self.members[consumer.0 as usize - 1].here = false;
        self.tell(6, code, 0, consumer.0, 0, 0);
        for at in 0..self.entries.len() {
            if matches!(self.entries[at].fate, Fate::InFlight(with, _) if with == consumer) {
                self.members[consumer.0 as usize - 1].in_flight -= 1;
                if code == 0 {
                    self.entries[at].attempts -= 1;
                    self.wait(at, 0);
                } else {
                    self.again(at, None);
                }
            }
        }
        self.turn();
    }

    /// Adds to a consumer's credit.
    pub fn credit(&mut self, consumer: ConsumerId, amount: u32) {
        self.members[consumer.0 as usize - 1].credit += amount;
        self.tell(7, 0, 0, consumer.0, amount, 0);
        self.turn();
    }

    /// Publishes `count` messages; `key` gives the key of each by its number,
    /// counted over all messages from 0, which is also its id. An empty key is none.
    pub fn publish(&mut self, count: usize, key: impl Fn(u64) -> Option<String>) {
        for _ in 0..count {
            let number = self.entries.len() as u64;
            let key = key(number).filter(|key| !key.is_empty());
            let hash = key.as_ref().map(|key| key_hash(key.as_bytes()));
            let message = TestMessage {
                published_at_ms: self.now_ms,
                sequence: number,
                ..TestMessage::new("bench").key(key.unwrap_or_default())
            };
            let fate = Fate::Waiting(self.now_ms);
            self.entries.push(Entry {
                message,
                key_hash: hash,
                attempts: 0,
                fate,
                taken: false,
                shown: false,
                first: false,
            });
        }
        self.turn();
    }

    /// The consumer settles the message; false when it does not hold it.
    pub fn ack(&mut self, message: MessageId) -> bool {
        let Some(consumer) = self.take_back(message) else { return false };
        self.finish(message.0 as usize, Fate::Settled);
        self.tell(2, 0, 0, consumer.0, 0, message.0);
        self.give_credit(consumer);
        self.turn();
        true
    }

    /// The consumer gives the message back, asking for a delay when not 0.
    pub fn nack(&mut self, message: MessageId, delay_ms: u32) -> bool {
        let Some(consumer) = self.take_back(message) else { return false };
        let attempt = self.entries[message.0 as usize].attempts;
        self.tell(3, 0, attempt, consumer.0, delay_ms, message.0);
        self.give_credit(consumer);
        self.again(message.0 as usize, Some(delay_ms).filter(|&delay_ms| delay_ms > 0));
        self.turn();
        true
    }

    /// Lets time pass; leases, delays, timers and ticks that end on the way act.
    pub fn run_for_ms(&mut self, span_ms: u64) {
        let end_ms = self.now_ms + span_ms;
        loop {
            let next_ms = self.next_moment_ms().filter(|&moment_ms| moment_ms <= end_ms);
            self.now_ms = next_ms.unwrap_or(end_ms);
            super::set_clock_ms(self.now_ms);
            self.expire();
            self.turn();
            if next_ms.is_none() {
                return;
            }
        }
    }

    /// Does `steps` random things, the same for the same seed: consumers join,
    /// leave and are lost, messages are settled, given back and forgotten.
    pub fn storm(&mut self, seed: u64, steps: usize) {
        let mut random = Random::new(seed);
        for step in 0..steps {
            let held: Vec<_> = self.held().collect();
            let here: Vec<_> =
                self.members.iter().filter(|member| member.here).map(|member| member.id).collect();
            match random.below(12) {
                0 if here.len() < 8 => {
                    let _ = self.join(&format!("storm-{step}"), 1 + random.below(8));
                }
                1 if here.len() > 1 => self.leave(here[random.below(here.len() as u32) as usize]),
                2 if here.len() > 1 => self.lose(here[random.below(here.len() as u32) as usize]),
                3 => self.run_for_ms(u64::from(random.below(2 * self.plan.lease_ms.max(1)))),
                4 | 5 if !held.is_empty() => {
                    let message = held[random.below(held.len() as u32) as usize];
                    self.nack(message, random.below(50));
                }
                _ if !held.is_empty() => {
                    self.ack(held[random.below(held.len() as u32) as usize]);
                }
                _ => self.run_for_ms(u64::from(random.below(5_000))),
            }
        }
    }

    /// Settles everything that can be settled: a fresh consumer with much credit
    /// and time enough.
    ///
    /// # Panics
    /// When messages stay undelivered: the policy forgot them.
    pub fn drain(&mut self) {
        let _ = self.join("drain", 1_000);
        for _ in 0..self.entries.len() * 4 + 16 {
            let held: Vec<_> = self.held().collect();
            for message in held {
                self.ack(message);
            }
            let open = |entry: &Entry| matches!(entry.fate, Fate::Waiting(_) | Fate::InFlight(..));
            if !self.entries.iter().any(open) {
                return;
            }
            self.run_for_ms(u64::from(self.plan.retry_max_ms.max(self.plan.lease_ms).max(1)));
        }
        panic!("messages stay undelivered: {:?}", self.open_messages());
    }

    /// Messages that consumers hold.
    pub fn held(&self) -> impl Iterator<Item = MessageId> {
        self.entries.iter().enumerate().filter_map(|(at, entry)| {
            matches!(entry.fate, Fate::InFlight(..)).then_some(MessageId(at as u64))
        })
    }

    /// What became of each message, by id.
    pub fn fates(&self) -> impl Iterator<Item = Fate> {
        self.entries.iter().map(|entry| entry.fate)
    }

    /// Every hand-over, in order.
    #[must_use]
    pub fn deliveries(&self) -> &[Delivered] {
        &self.deliveries
    }

    /// How often each message was handed over, by id.
    #[must_use]
    pub fn deliveries_per_message(&self) -> Vec<usize> {
        let count = |at| self.deliveries.iter().filter(|one| one.message.0 as usize == at).count();
        (0..self.entries.len()).map(count).collect()
    }

    /// The settled messages, in the order they were settled.
    #[must_use]
    pub fn settled(&self) -> &[MessageId] {
        &self.settled
    }

    /// Codes of the wishes that were refused, in order.
    #[must_use]
    pub fn refusals(&self) -> &[u8] {
        &self.refusals
    }

    fn open_messages(&self) -> Vec<usize> {
        let open =
            |at: &usize| matches!(self.entries[*at].fate, Fate::Waiting(_) | Fate::InFlight(..));
        (0..self.entries.len()).filter(open).collect()
    }

    fn tell(&mut self, kind: u8, code: u8, attempt: u16, consumer: u32, value: u32, message: u64) {
        if self.plan.interest >> kind & 1 == 1 {
            let group = GROUP.0;
            let event = EventRow { kind, code, attempt, group, consumer, value, message };
            self.events.push_back(event);
        }
    }

    fn take_back(&mut self, message: MessageId) -> Option<ConsumerId> {
        match self.entries.get(message.0 as usize)?.fate {
            Fate::InFlight(consumer, _) => {
                self.members[consumer.0 as usize - 1].in_flight -= 1;
                Some(consumer)
            }
            _ => None,
        }
    }

    fn give_credit(&mut self, consumer: ConsumerId) {
        self.members[consumer.0 as usize - 1].credit += 1;
        self.tell(7, 0, 0, consumer.0, 1, 0);
    }

    fn finish(&mut self, at: usize, fate: Fate) {
        (self.entries[at].fate, self.entries[at].first) = (fate, false);
        if fate == Fate::Settled {
            self.settled.push(MessageId(at as u64));
        }
    }

    fn wait(&mut self, at: usize, delay_ms: u64) {
        self.entries[at].fate = Fate::Waiting(self.now_ms + delay_ms.min(TIMER_MS_MAX));
        self.entries[at].shown = false;
    }

    /// A try failed: the next one, or the end.
    fn again(&mut self, at: usize, delay_ms: Option<u32>) {
        let attempts = self.entries[at].attempts;
        if self.plan.attempts > 0 && u32::from(attempts) >= self.plan.attempts {
            let fate = match self.plan.exhausted {
                1 => Fate::DeadLettered,
                2 => Fate::Dropped,
                _ => Fate::Parked,
            };
            return self.finish(at, fate);
        }
        let back_off_ms = rules::back_off_ms(&self.plan, attempts);
        self.wait(at, delay_ms.map_or(back_off_ms, u64::from));
    }

    fn next_moment_ms(&self) -> Option<u64> {
        let entries = self.entries.iter().filter_map(|entry| match entry.fate {
            Fate::Waiting(at_ms) | Fate::InFlight(_, at_ms) => Some(at_ms),
            _ => None,
        });
        let tick = (self.plan.tick_ms > 0).then_some(self.next_tick_ms);
        entries
            .chain(self.wakes.iter().map(|&(at_ms, _)| at_ms))
            .chain(tick)
            .filter(|&moment_ms| moment_ms > self.now_ms)
            .min()
    }

    fn expire(&mut self) {
        for at in 0..self.entries.len() {
            if let Fate::InFlight(consumer, until_ms) = self.entries[at].fate
                && until_ms <= self.now_ms
            {
                self.members[consumer.0 as usize - 1].in_flight -= 1;
                let attempt = self.entries[at].attempts;
                self.tell(4, 0, attempt, consumer.0, 0, at as u64);
                self.give_credit(consumer);
                self.again(at, None);
            }
        }
        self.ring();
        while self.plan.tick_ms > 0 && self.next_tick_ms <= self.now_ms {
            self.next_tick_ms += u64::from(self.plan.tick_ms);
            self.tell(10, 0, 0, 0, 0, 0);
        }
    }

    /// Tells of the policy's timers that are due.
    fn ring(&mut self) {
        let now_ms = self.now_ms;
        let due: Vec<_> = self
            .wakes
            .extract_if(.., |(at_ms, _)| *at_ms <= now_ms)
            .map(|(_, token)| token)
            .collect();
        for token in due {
            self.tell(9, 0, 0, 0, 0, token);
        }
    }

    /// Hands over, tells the policy and does what it wishes, until all is quiet.
    fn turn(&mut self) {
        for _ in 0..ROUNDS_MAX {
            // A timer of no length is due at once.
            self.ring();
            if self.plan.chooser == 0 {
                self.show()
            } else {
                self.hand_over()
            }
            if self.events.is_empty() {
                return;
            }
            let events: Vec<_> = self.events.drain(..).collect();
            let shown: Vec<_> = events
                .iter()
                .filter(|event| event.kind == 1)
                .map(|event| self.entries[event.message as usize].message.clone())
                .collect();
            let ready = columns(&self.manifest, &shown);
            let names = &self.manifest.header_columns;
            for wish in step_batch(self.policy, names, self.now_ms, events.into_iter(), &ready) {
                if let Err(code) = self.grant(&wish) {
                    self.refusals.push(code);
                    self.tell(11, code, 0, wish.consumer, 0, wish.message);
                }
            }
        }
        panic!("after {ROUNDS_MAX} rounds the policy still answers its own echo");
    }
}
