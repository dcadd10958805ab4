//! What happens to a message a consumer did not settle: back-off, the attempt
//! limit, and the copies of single consumers where every one gets each message.

use super::Group;
use super::consumer::{ConsumerId, Delivery};
use super::slot::{Fate, MessageId, State, offset_of, partition_of};
use crate::limits;

/// How a delivery ended without being settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It counts as a try; the delay asked for, or 0 for the plan's back-off.
    Failed { delay_ms: u32 },
    /// The consumer said goodbye: back at once, not counted.
    Returned,
}

impl Group {
    /// Delay after `failures` failed tries, ms. It grows in us: a few ms that grow by a small
    /// share would never become one more.
    fn back_off_ms(&self, failures: u16) -> u64 {
        let plan = &self.plan;
        let longest_us = 1_000 * u64::from(plan.retry_max_ms.max(plan.retry_first_ms));
        let mut delay_us = 1_000 * u64::from(plan.retry_first_ms);
        for _ in 1..failures {
            let grown_us = delay_us.saturating_mul(u64::from(plan.retry_growth.max(100))) / 100;
            if grown_us == delay_us || delay_us >= longest_us {
                break;
            }
            delay_us = grown_us;
        }
        delay_us.min(longest_us) / 1_000
    }

    /// A delivery that was taken from its consumer goes back.
    pub(super) fn take_back(
        &mut self,
        now_ms: u64,
        consumer: ConsumerId,
        delivery: &Delivery,
        ending: Ending,
    ) {
        let message = delivery.message;
        // A seek, purge or retention may have taken the message away meanwhile.
        let slot = self.slot(message).filter(|slot| slot.state == State::InFlight);
        let Some(slot) = slot else { return };
        if self.plan.spread == 0 && slot.holders > 1 {
            // Copies from before a change of plan: the last to end decides.
            return self.end_copy(now_ms, message, Fate::Again, "");
        }
        let Ending::Failed { delay_ms } = ending else {
            return self.put_back(now_ms, message, 0);
        };
        let failures = delivery.attempts.saturating_add(1);
        if let Some(slot) = self.slot_mut(message) {
            slot.attempts = slot.attempts.max(failures);
        }
        let is_last = self.plan.attempts > 0 && u32::from(failures) >= self.plan.attempts;
        if self.plan.spread == 1
            && let Some(consumer) = self.consumers.get_mut(&consumer)
        {
            match is_last {
                true => consumer.tries.remove(&message),
                false => consumer.tries.insert(message, failures),
            };
        }
        if is_last {
            return self.exhausted(now_ms, message);
        }
        let delay_ms = match delay_ms {
            0 => self.back_off_ms(failures),
            asked => u64::from(asked),
        };
        self.try_later(now_ms, message, consumer, delay_ms);
    }

    /// The last try has failed.
    fn exhausted(&mut self, now_ms: u64, message: MessageId) {
        let powers = self.decider.powers;
        match self.plan.exhausted {
            1 if powers.dead_letter => self.end_copy(now_ms, message, Fate::Dead, "exhausted"),
            2 if powers.drop => {
                self.counters.dropped += 1;
                self.end_copy(now_ms, message, Fate::Settled, "");
            }
            // Without the power nothing may be lost: an operator decides.
            _ => self.end_copy(now_ms, message, Fate::Parked, ""),
        }
    }

    /// Another try after `delay_ms`: for the group, or for the one consumer
    /// whose copy it was.
    pub(super) fn try_later(
        &mut self,
        now_ms: u64,
        message: MessageId,
        id: ConsumerId,
        delay_ms: u64,
    ) {
        if self.plan.spread != 1 {
            return self.put_back(now_ms, message, delay_ms);
        }
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return self.end_copy(now_ms, message, Fate::Again, "");
        };
        if delay_ms == 0 {
            consumer.waiting.insert(message);
            return self.open(now_ms, id);
        }
        let due_ms = now_ms + delay_ms.min(limits::TIMER_MS_MAX);
        self.timers.delayed_copies.insert((due_ms, id, message));
    }

    /// Neighbours, from `first` to before `end`, are settled by a consumer each.
    pub(super) fn settle_copies(&mut self, now_ms: u64, first: MessageId, end: MessageId) {
        let mut next = first;
        while next < end {
            next += self.finish_run(next, end);
            if next < end {
                self.end_copy(now_ms, next, Fate::Settled, "");
                next += 1;
            }
        }
    }

    /// As [`Group::settle_copies`], up to the first of which more is to be said. Returns
    /// how many.
    fn finish_run(&mut self, first: MessageId, end: MessageId) -> u64 {
        if self.plan.order > 0 {
            // Each makes way for the next of its lane.
            return 0;
        }
        let (partition, offset) = (partition_of(first), offset_of(first));
        let Some(part) = self.parts.get_mut(partition) else { return 0 };
        let (mut left, mut bytes) = (end - first, 0);
        let count = part.slots.remove_run(offset, |slot| {
            let simple = left > 0 && slot.is_with_one();
            if simple {
                left -= 1;
                bytes += u64::from(slot.bytes);
            }
            simple
        });
        if count > 0 {
            self.counts[State::InFlight as usize] -= count as u32;
            self.live_bytes -= bytes;
            self.freed_bytes += bytes;
            self.note_settled(partition as u16, offset, offset + count);
        }
        count
    }

    /// One consumer is through with its copy. What becomes of the message is
    /// decided when the last one is.
    pub(super) fn end_copy(&mut self, now_ms: u64, message: MessageId, fate: Fate, reason: &str) {
        let part = self.parts.get_mut(partition_of(message));
        let slot = part.and_then(|part| part.slots.get_mut(offset_of(message)));
        let Some(slot) = slot.filter(|slot| slot.state == State::InFlight) else { return };
        slot.fate = slot.fate.max(fate);
        slot.holders = slot.holders.saturating_sub(1);
        if slot.holders > 0 {
            return;
        }
        match slot.fate {
            Fate::Settled => self.finish(now_ms, message),
            _ if slot.released => self.gone(now_ms, message),
            Fate::Again => self.put_back(now_ms, message, 0),
            Fate::Parked => self.park(now_ms, message),
            Fate::Dead => {
                let reason = if reason.is_empty() { "exhausted" } else { reason };
                self.dead_letter(message, reason.to_owned());
            }
        }
    }
}
