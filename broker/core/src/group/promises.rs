//! What a policy has chosen a consumer for who has credit but no room now: its line is
//! long, or it holds as many bytes as it may. The broker keeps the choice and hands over
//! when there is room.
//!
//! Invariants: a message that is `Promised` stands in one consumer's list, once; a
//! consumer is promised no more than its credit and pulls pay for; a promise lasts no
//! longer than a lease, and then the policy chooses anew; of each consumer's promises one
//! check waits, not later than the first of them ends.

use std::collections::VecDeque;

use super::consumer::{ConsumerId, Promise};
use super::slot::{MessageId, State};
use super::{Group, Io};
use crate::limits;

impl Group {
    /// Notes a choice of the policy. The message is in no list.
    pub(super) fn promise(
        &mut self,
        now_ms: u64,
        message: MessageId,
        id: ConsumerId,
        lease_ms: u32,
    ) {
        self.set_state(message, State::Promised, 0);
        let until_ms = now_ms + u64::from(lease_ms).min(limits::TIMER_MS_MAX);
        let consumer = self.consumers.get_mut(&id).expect("a policy chose it");
        if until_ms < consumer.promise_check_ms {
            let before_ms = std::mem::replace(&mut consumer.promise_check_ms, until_ms);
            self.timers.promise_checks.remove(&(before_ms, id));
            self.timers.promise_checks.insert((until_ms, id));
        }
        consumer.promised.push_back(Promise { message, lease_ms, until_ms });
    }

    /// Hands over what was promised and there is room for now. Whether that was
    /// anything.
    pub(super) fn keep_promises(&mut self, io: &mut Io<'_>) -> bool {
        if self.timers.promise_checks.is_empty() {
            return false;
        }
        let mut picks = Vec::new();
        let waits = |id: &&ConsumerId| !self.consumers[*id].promised.is_empty();
        let open: Vec<ConsumerId> = self.turn.iter().filter(waits).copied().collect();
        for id in open {
            while self.room(id) > 0 {
                let consumer = self.consumers.get_mut(&id).expect("a consumer with room exists");
                let Some(promise) = consumer.promised.pop_front() else { break };
                if self.is_promised(promise.message) {
                    picks.push(self.pick(promise.message, id, promise.lease_ms));
                } else {
                    // It has left meanwhile: what was to pay for it may be spent again.
                    self.tell_credit(id, 1);
                }
            }
        }
        self.deliver(io, &picks);
        !picks.is_empty()
    }

    /// Gives back to the policy what was promised for too long.
    pub(super) fn end_promises(&mut self, now_ms: u64) {
        while let Some(&(at, id)) = self.timers.promise_checks.first() {
            if at > now_ms {
                break;
            }
            self.timers.promise_checks.pop_first();
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            let all = std::mem::take(&mut consumer.promised);
            let (over, left): (VecDeque<_>, VecDeque<_>) =
                all.into_iter().partition(|promise| promise.until_ms <= now_ms);
            consumer.promised = left;
            let next = consumer.promised.iter().map(|promise| promise.until_ms).min();
            consumer.promise_check_ms = next.unwrap_or(u64::MAX);
            self.timers.promise_checks.extend(next.map(|next_ms| (next_ms, id)));
            self.tell_credit(id, over.len() as u32);
            self.forget_promises(now_ms, over);
        }
    }

    /// Gives back what the consumer's credit and pulls do not pay for any more.
    pub(super) fn end_unpaid_promises(&mut self, now_ms: u64, id: ConsumerId) {
        let per_consumer = self.plan.per_consumer;
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let paid = consumer.places(per_consumer) as usize;
        if consumer.promised.len() > paid {
            let unpaid = consumer.promised.split_off(paid);
            self.forget_promises(now_ms, unpaid);
        }
    }

    /// The consumer does not get these: they wait as they did before they were chosen.
    pub(super) fn forget_promises(&mut self, now_ms: u64, promised: VecDeque<Promise>) {
        for Promise { message, .. } in promised {
            if self.is_promised(message) {
                self.make_eligible(now_ms, message, true);
            }
        }
    }

    /// Whether a message that was promised still is there.
    fn is_promised(&self, message: MessageId) -> bool {
        self.slot(message).is_some_and(|slot| slot.state == State::Promised)
    }
}
