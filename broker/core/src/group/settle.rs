//! What consumers say of their deliveries.

use super::Group;
use super::consumer::{ConsumerId, Delivery, Tally};
use super::failure::Ending;
use super::slot::{Fate, MessageId};
use crate::command::{Settlement, Verb};
use crate::limits;
use crate::policy::{Event, event};

impl Group {
    /// Settles deliveries of one consumer.
    pub(crate) fn settle(
        &mut self,
        now_ms: u64,
        id: ConsumerId,
        settlements: &[Settlement],
    ) -> Tally {
        let mut told = Tally::default();
        for alike in settlements.chunk_by(|one, next| one.verb == next.verb) {
            told.add(if alike.is_sorted_by_key(|one| one.first) {
                self.settle_in_order(now_ms, id, alike)
            } else {
                let mut sorted = alike.to_vec();
                sorted.sort_unstable_by_key(|one| one.first);
                self.settle_in_order(now_ms, id, &sorted)
            });
        }
        if let (false, Some(consumer)) = (self.asked, self.consumers.get_mut(&id)) {
            consumer.untold.add(told);
        }
        self.open(now_ms, id);
        told
    }

    /// What became of all that a consumer has settled without asking, since it last
    /// asked for that. What is not done yet is done as if it had asked.
    pub(crate) fn flush(&mut self, id: ConsumerId) -> Tally {
        self.dying.iter_mut().for_each(|dying| dying.asked = true);
        self.consumers.get_mut(&id).map(|it| std::mem::take(&mut it.untold)).unwrap_or_default()
    }

    /// Settles ranges that say the same, the lowest first. Where they overlap, a delivery
    /// is settled once and unknown from then on; so what they cost together is bounded by
    /// what the consumer holds, however many they are.
    fn settle_in_order(&mut self, now_ms: u64, id: ConsumerId, ranges: &[Settlement]) -> Tally {
        let mut told = Tally::default();
        let mut from = 0;
        for &Settlement { first, last, verb } in ranges {
            let rest = Settlement { first: first.max(from), last, verb };
            let known = match verb {
                _ if rest.first > last => 0,
                Verb::Extend { by_ms } => self.extend_leases(now_ms, id, &rest, by_ms),
                verb => self.settle_range(now_ms, id, &rest, verb),
            };
            let named = if last < first { 0 } else { (last - first).saturating_add(1) };
            told.add(Tally { done: known, unknown: named.saturating_sub(known) });
            from = from.max(last.saturating_add(1));
        }
        told
    }

    fn settle_range(&mut self, now_ms: u64, id: ConsumerId, range: &Settlement, verb: Verb) -> u64 {
        let mut scratch = self.scratch.take().unwrap_or_default();
        let taken = &mut scratch.taken;
        taken.clear();
        let Some(consumer) = self.consumers.get_mut(&id) else { return 0 };
        let returned = consumer.take_range(range.first, range.last, taken);
        if self.plan.interest != 0 {
            self.tell_settled(id, taken, verb, returned);
        }
        let open = taken.iter().map(|(_, delivery)| delivery).filter(|one| !one.is_settled());
        if verb == Verb::Ack && self.plan.spread == 0 {
            self.ack_all(now_ms, open.map(|delivery| delivery.message));
        } else {
            open.for_each(|delivery| self.settle_one(now_ms, id, delivery, verb));
        }
        let known = taken.len() as u64;
        self.scratch = Some(scratch);
        known
    }

    /// Tells the policy what was settled, then of the credit that came back, and
    /// both before anything that follows from it.
    fn tell_settled(
        &mut self,
        id: ConsumerId,
        taken: &[(u64, Delivery)],
        verb: Verb,
        returned: u32,
    ) {
        for (_, delivery) in taken.iter().filter(|(_, delivery)| !delivery.is_settled()) {
            let told = Event { consumer: id, message: delivery.message, ..Event::default() };
            let attempt = delivery.attempts.saturating_add(1);
            self.tell(match verb {
                Verb::Nack { delay_ms, code } => {
                    Event { kind: event::NACKED, code, value: delay_ms, attempt, ..told }
                }
                // It leaves without having been acknowledged.
                Verb::Reject { .. } => Event { kind: event::GONE, consumer: 0, ..told },
                _ => Event { kind: event::ACKED, ..told },
            });
        }
        self.tell_credit(id, returned);
    }

    /// Tells the policy that a consumer can take `amount` more.
    pub(super) fn tell_credit(&mut self, consumer: ConsumerId, amount: u32) {
        if amount > 0 {
            let (kind, value) = (event::CREDIT, amount);
            self.tell(Event { kind, consumer, value, ..Event::default() });
        }
    }

    /// Acknowledges messages, neighbours together.
    fn ack_all(&mut self, now_ms: u64, messages: impl Iterator<Item = MessageId>) {
        let mut messages = messages.peekable();
        while let Some(first) = messages.next() {
            let mut count = 1;
            while messages.next_if_eq(&(first + count)).is_some() {
                count += 1;
            }
            self.counters.acked += count;
            self.settle_copies(now_ms, first, first + count);
        }
    }

    fn settle_one(&mut self, now_ms: u64, consumer: ConsumerId, delivery: &Delivery, verb: Verb) {
        let message = delivery.message;
        if self.plan.spread == 1
            && !matches!(verb, Verb::Nack { .. })
            && let Some(consumer) = self.consumers.get_mut(&consumer)
        {
            consumer.tries.remove(&message);
        }
        match verb {
            Verb::Ack => {
                self.counters.acked += 1;
                self.end_copy(now_ms, message, Fate::Settled, "");
            }
            Verb::Nack { delay_ms, .. } => {
                self.counters.nacked += 1;
                self.take_back(now_ms, consumer, delivery, Ending::Failed { delay_ms });
            }
            Verb::Reject { code } => {
                // The consumer's own word, so no power of the policy is asked.
                self.counters.nacked += 1;
                if let Some(slot) = self.slot_mut(message) {
                    slot.attempts = slot.attempts.max(delivery.attempts.saturating_add(1));
                }
                self.end_copy(now_ms, message, Fate::Dead, &format!("rejected:{code}"));
            }
            Verb::Extend { .. } => {}
        }
    }

    fn extend_leases(
        &mut self,
        now_ms: u64,
        id: ConsumerId,
        range: &Settlement,
        by_ms: u32,
    ) -> u64 {
        let by_ms = if by_ms == 0 { self.plan.lease_ms } else { by_ms };
        let expires_ms = now_ms + u64::from(by_ms).min(limits::TIMER_MS_MAX);
        let Some(consumer) = self.consumers.get(&id) else { return 0 };
        let held = consumer.deliveries.range(range.first, range.last);
        let tags: Vec<u64> = held.map(|(tag, _)| tag).collect();
        for &tag in &tags {
            self.extend_lease(id, tag, expires_ms, by_ms);
        }
        tags.len() as u64
    }

    /// Gives one delivery another end, and tells the policy.
    pub(super) fn extend_lease(&mut self, id: ConsumerId, tag: u64, expires_ms: u64, value: u32) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let Some(&delivery) = consumer.deliveries.get(tag) else { return };
        if delivery.is_settled() {
            return;
        }
        consumer.extend(tag, expires_ms);
        if expires_ms < consumer.check_ms {
            self.timers.lease_checks.remove(&(consumer.check_ms, id));
            consumer.check_ms = expires_ms;
            self.timers.lease_checks.insert((expires_ms, id));
        }
        let message = delivery.message;
        self.tell(Event {
            kind: event::EXTENDED,
            consumer: id,
            message,
            value,
            ..Event::default()
        });
    }
}
