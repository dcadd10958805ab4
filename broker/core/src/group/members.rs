//! Consumers come and go, and get more credit.

use super::Group;
use super::consumer::{Consumer, ConsumerId, Pull};
use super::failure::Ending;
use super::slot::{Fate, State};
use crate::command::RequestId;
use crate::effect::{Effect, Reply};
use crate::limits;
use crate::policy::{Event, event};

impl Group {
    /// A consumer is in.
    pub(crate) fn attach(&mut self, now_ms: u64, consumer: Consumer) {
        let (id, value) = (consumer.id, consumer.credit);
        self.consumers.insert(id, consumer);
        self.reassign_keys();
        self.tell(Event { kind: event::JOINED, consumer: id, value, ..Event::default() });
        self.open(now_ms, id);
    }

    /// A consumer is gone: `lost`, or after saying so. What it held goes back.
    pub(crate) fn leave(
        &mut self,
        now_ms: u64,
        id: ConsumerId,
        lost: bool,
        effects: &mut Vec<Effect>,
    ) -> Option<Consumer> {
        let mut consumer = self.consumers.remove(&id)?;
        if consumer.in_turn {
            self.turn.retain(|&other| other != id);
        }
        let code = u8::from(lost);
        self.tell(Event { kind: event::LEFT, consumer: id, code, ..Event::default() });
        self.timers.lease_checks.remove(&(consumer.check_ms, id));
        self.timers.promise_checks.remove(&(consumer.promise_check_ms, id));
        for pull in std::mem::take(&mut consumer.pulls) {
            self.timers.pull_ends.remove(&(pull.until_ms, id));
            if !lost {
                let done = u64::from(pull.max - pull.left);
                let reply = Reply::Count { done, unknown: 0 };
                let connection = consumer.connection;
                effects.push(Effect::Reply { connection, request: pull.request, reply });
            }
        }
        let ending = if lost { Ending::Failed { delay_ms: 0 } } else { Ending::Returned };
        let held = consumer.deliveries.iter().map(|(_, delivery)| *delivery);
        for delivery in held.filter(|delivery| !delivery.is_settled()) {
            if self.plan.spread == 1 {
                self.end_copy(now_ms, delivery.message, Fate::Again, "");
            } else {
                self.take_back(now_ms, id, &delivery, ending);
            }
        }
        if self.plan.spread == 1 {
            let copies: Vec<_> =
                self.timers.delayed_copies.iter().filter(|copy| copy.1 == id).copied().collect();
            for copy in copies {
                self.timers.delayed_copies.remove(&copy);
                consumer.waiting.insert(copy.2);
            }
            for &message in &consumer.waiting {
                self.end_copy(now_ms, message, Fate::Again, "");
            }
        } else {
            self.ready.append_again(&mut consumer.waiting);
        }
        self.forget_promises(now_ms, std::mem::take(&mut consumer.promised));
        self.reassign_keys();
        Some(consumer)
    }

    /// Members have changed: what waits for one by its key is assigned anew.
    fn reassign_keys(&mut self) {
        if self.plan.spread == 1 || self.plan.chooser != 3 {
            return;
        }
        for consumer in self.consumers.values_mut() {
            self.ready.append_again(&mut consumer.waiting);
        }
        let slots = &self.parts;
        self.ready.retain_again(|&message| {
            let slots = &slots[super::partition_of(message)].slots;
            slots.get(super::offset_of(message)).is_some_and(|slot| slot.state == State::Ready)
        });
    }

    /// The line of a consumer has opened: it may get more.
    pub(crate) fn line_opened(&mut self, now_ms: u64, id: ConsumerId) {
        let Some(consumer) = self.consumers.get(&id) else { return };
        self.timers.pull_ends.extend(consumer.pulls.iter().map(|pull| (pull.until_ms, id)));
        self.open(now_ms, id);
    }

    /// More credit for a consumer.
    pub(crate) fn credit(&mut self, now_ms: u64, id: ConsumerId, amount: u32) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let value = consumer.add_credit(amount);
        self.tell_credit(id, value);
        self.open(now_ms, id);
    }

    /// A waiting receive.
    pub(crate) fn pull(
        &mut self,
        now_ms: u64,
        id: ConsumerId,
        request: RequestId,
        max: u32,
        wait_ms: u32,
    ) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let max = max.min(limits::CREDIT_MAX);
        let until_ms = now_ms + u64::from(wait_ms.min(limits::PULL_MS_MAX));
        consumer.pulls.push_back(Pull { request, max, left: max, until_ms });
        self.timers.pull_ends.insert((until_ms, id));
        self.tell_credit(id, max);
        self.open(now_ms, id);
    }
}
