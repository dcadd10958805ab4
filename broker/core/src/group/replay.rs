//! A change of plan, and the replay that lets a policy catch up.
//!
//! Nothing is delivered or lost here: leases, attempts and delays stay, only the
//! lines in which messages wait are built anew.

use super::lanes::lane_of;
use super::part::Part;
use super::slot::{Fate, MessageId, State, message_id};
use super::{Decider, Group, Io, offset_of, partition_of};
use crate::policy::{Event, Plan, event};
use crate::store::Store;

/// Lease where a plan names none, ms.
const LEASE_MS: u32 = 30_000;

/// Checks a plan's codes, and fills in what it leaves open.
///
/// # Errors
/// A sentence that names the code the broker does not know.
pub(crate) fn checked(mut plan: Plan, order_floor: u8) -> Result<Plan, String> {
    let codes = [
        ("chooser", plan.chooser, 3),
        ("spread", plan.spread, 1),
        ("ack", plan.ack, 1),
        ("order", plan.order, 2),
        ("exhausted", plan.exhausted, 2),
    ];
    for (name, code, last) in codes {
        if code > last {
            return Err(format!("the plan's {name} is {code}; this broker knows 0 to {last}"));
        }
    }
    plan.order = plan.order.max(order_floor);
    if plan.lease_ms == 0 {
        plan.lease_ms = LEASE_MS;
    }
    if plan.chooser == 0 {
        // A policy that picks says itself who gets what.
        plan.spread = 0;
    }
    Ok(plan)
}

impl Group {
    /// Another decider with its plan (checked). The events for the old one are
    /// void; `replay` tells the new one everything.
    pub(crate) fn set_plan(&mut self, io: &mut Io<'_>, decider: Decider, plan: Plan) {
        let now_ms = io.now.steady_ms;
        self.end_owed_copies(now_ms);
        if self.decider.binding != decider.binding || decider.binding.is_none() {
            self.timers.forget(|timers| timers.wakes.clear());
        }
        self.decider = decider;
        self.next_tick_ms = match plan.tick_ms {
            0 => u64::MAX,
            period => now_ms + u64::from(period),
        };
        self.plan = plan;
        self.look_up_keys(io);
        self.line_up_again(now_ms);
        self.events.clear();
    }

    /// Tells the policy what there is: consumers, leases, waiting messages.
    pub(crate) fn replay(&mut self, now_ms: u64) {
        let mut told = Vec::new();
        for consumer in self.consumers.values() {
            let pulled: u32 = consumer.pulls.iter().map(|pull| pull.left).sum();
            let (id, value) = (consumer.id, consumer.credit.saturating_add(pulled));
            told.push(Event { kind: event::JOINED, consumer: id, value, ..Event::default() });
        }
        for consumer in self.consumers.values() {
            let held = consumer.deliveries.iter().map(|(_, delivery)| delivery);
            told.extend(held.filter(|delivery| !delivery.is_settled()).map(|delivery| Event {
                kind: event::LEASED,
                consumer: consumer.id,
                message: delivery.message,
                attempt: delivery.attempts.saturating_add(1),
                value: delivery.expires_ms.saturating_sub(now_ms) as u32,
                ..Event::default()
            }));
        }
        told.into_iter().for_each(|event| self.tell(event));
        for message in self.messages(|slot| matches!(slot.state, State::Ready | State::Offered)) {
            let slot = *self.slot(message).expect("it was just listed");
            self.tell_ready(message, &slot);
        }
        self.tell(Event { kind: event::REPLAYED, ..Event::default() });
    }

    /// Copies that single consumers are still owed are void under another plan.
    fn end_owed_copies(&mut self, now_ms: u64) {
        let mut owed: Vec<MessageId> = Vec::new();
        let spread = self.plan.spread == 1;
        for consumer in self.consumers.values_mut() {
            let waiting = std::mem::take(&mut consumer.waiting);
            consumer.tries.clear();
            consumer.promised.clear();
            if spread {
                owed.extend(waiting);
            }
        }
        owed.extend(self.timers.delayed_copies.iter().map(|copy| copy.2));
        self.timers.forget(|timers| timers.delayed_copies.clear());
        for message in owed {
            self.end_copy(now_ms, message, Fate::Again, "");
        }
    }

    /// Builds lanes and lines anew from the messages' states.
    fn line_up_again(&mut self, now_ms: u64) {
        self.lanes.clear();
        self.ready.clear();
        self.timers.forget(|timers| timers.offers.clear());
        let order = self.plan.order;
        for message in self.messages(|slot| matches!(slot.state, State::InFlight | State::Dying)) {
            let slot = self.slot(message).expect("it was just listed");
            if let Some(key) = lane_of(order, slot) {
                self.lanes.enter_busy(key);
            }
        }
        let waits = [State::Ready, State::Offered, State::Promised, State::Blocked, State::Delayed];
        for message in self.messages(|slot| waits.contains(&slot.state)) {
            let slot = *self.slot(message).expect("it was just listed");
            let first = lane_of(order, &slot).is_none_or(|key| self.lanes.enter(key, message));
            match (first, slot.state) {
                (true, State::Delayed) => {}
                (true, _) => self.make_eligible(now_ms, message, slot.attempts > 0),
                (false, State::Delayed | State::Blocked) => {
                    self.unlist(message, &slot);
                    self.set_state(message, State::Blocked, slot.mark_ms);
                }
                (false, _) => self.set_state(message, State::Blocked, 0),
            }
        }
        let everyone: Vec<_> = self.consumers.keys().copied().collect();
        everyone.into_iter().for_each(|id| self.open(now_ms, id));
    }

    /// Another order from the operator, or another start: what is in flight of
    /// these partitions is forgotten (late settlements are void), and reading goes
    /// on at the offset beside each. All at once: every message that stays is lined
    /// up again for it.
    pub(crate) fn seek(&mut self, now_ms: u64, store: &mut dyn Store, starts: &[(u16, u64)]) {
        let mut moves = vec![false; self.parts.len()];
        starts.iter().for_each(|&(partition, _)| moves[usize::from(partition)] = true);
        let goes = |message: MessageId| moves[partition_of(message)];
        let mut returned = Vec::new();
        for consumer in self.consumers.values_mut() {
            let held = consumer.deliveries.iter();
            let of_them = held.filter(|(_, delivery)| goes(delivery.message));
            let tags: Vec<u64> = of_them.map(|(tag, _)| tag).collect();
            let before = consumer.credit;
            for tag in tags {
                consumer.take(tag);
            }
            consumer.waiting.retain(|&message| !goes(message));
            consumer.tries.retain(|&message, _| !goes(message));
            // Everything that waits is lined up again below.
            let promised = std::mem::take(&mut consumer.promised).len() as u32;
            returned.push((consumer.id, consumer.credit - before + promised));
        }
        returned.into_iter().for_each(|(id, amount)| self.tell_credit(id, amount));
        self.dying.retain(|dying| !goes(dying.message));
        self.timers.forget(|timers| timers.delayed_copies.retain(|copy| !goes(copy.2)));
        // What was settled and not told is as void as what was told.
        self.settled.retain(|settled| !moves[usize::from(settled.partition)]);
        for &(partition, to) in starts {
            let slots = &self.parts[usize::from(partition)].slots;
            let gone: Vec<MessageId> =
                slots.iter().map(|(offset, _)| message_id(partition, offset)).collect();
            for message in gone {
                self.tell(Event { kind: event::GONE, message, ..Event::default() });
                self.forget(message);
            }
            let part = &mut self.parts[usize::from(partition)];
            *part = Part::restart(store, part.log, part.cursor, to);
        }
        self.line_up_again(now_ms);
    }

    /// Drops a slot without settling it or moving its lane on.
    fn forget(&mut self, message: MessageId) {
        let slots = &mut self.parts[partition_of(message)].slots;
        let Some(slot) = slots.remove(offset_of(message)) else { return };
        self.counts[slot.state as usize] -= 1;
        self.live_bytes -= u64::from(slot.bytes);
        self.unlist(message, &slot);
    }

    /// Removes every waiting message taken so far. Returns how many.
    pub(crate) fn purge(&mut self, now_ms: u64) -> u64 {
        let waiting = self.messages(|slot| !matches!(slot.state, State::InFlight | State::Dying));
        let removed = waiting.len() as u64;
        // From the back, so that no message is made ready just to be removed.
        for &message in waiting.iter().rev() {
            self.gone(now_ms, message);
        }
        removed
    }

    /// Goes on behind everything in the log, for a purge. Returns how many
    /// messages were passed over.
    pub(crate) fn pass_over(
        &mut self,
        store: &dyn Store,
        partition: u16,
        from: u64,
        end: u64,
    ) -> u64 {
        let part = &mut self.parts[usize::from(partition)];
        part.skip_to(store, from);
        let next = part.slots.next();
        let passed = part.skip_to(store, end);
        if passed > 0 {
            self.note_settled(partition, next, end);
        }
        passed
    }
}
