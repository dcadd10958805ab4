//! Wishes of the policy, each checked against the broker's rules. A wish that
//! breaks one is refused, counted and told back; the others count.

use super::slot::{MessageId, State};
use super::{Group, Io, Pick};
use crate::limits;
use crate::policy::{Action, Event, Plan, action, event, refusal};

impl Group {
    /// Does what the policy wishes, in its order.
    pub(crate) fn wish(&mut self, io: &mut Io<'_>, actions: &[Action]) {
        let mut scratch = self.scratch.take().unwrap_or_default();
        let picks = &mut scratch.picks;
        picks.clear();
        for wish in actions {
            if wish.kind == action::EXTEND && !picks.is_empty() {
                self.deliver(io, picks);
                picks.clear();
            }
            if let Err(code) = self.grant(io.now.steady_ms, wish, picks) {
                self.refuse(wish, code);
            }
        }
        self.deliver(io, picks);
        self.scratch = Some(scratch);
    }

    /// Refuses a wish: counted, and told to the policy.
    pub(crate) fn refuse(&mut self, wish: &Action, code: u8) {
        self.counters.refused_actions += 1;
        self.tell(refused(wish, code));
    }

    fn grant(&mut self, now_ms: u64, wish: &Action, picks: &mut Vec<Pick>) -> Result<(), u8> {
        match wish.kind {
            action::DISPATCH => self.grant_dispatch(now_ms, wish, picks),
            action::RETRY => {
                self.decidable(wish.message)?;
                self.put_back(now_ms, wish.message, u64::from(wish.value));
                Ok(())
            }
            action::DEAD_LETTER => {
                let granted = self.decider.powers.dead_letter;
                granted.then_some(()).ok_or(refusal::NOT_GRANTED)?;
                self.decidable(wish.message)?;
                self.dead_letter(wish.message, format!("policy:{}", wish.code));
                Ok(())
            }
            action::DROP => {
                self.decider.powers.drop.then_some(()).ok_or(refusal::NOT_GRANTED)?;
                self.decidable(wish.message)?;
                self.counters.dropped += 1;
                self.finish(now_ms, wish.message);
                Ok(())
            }
            action::PARK => {
                self.decidable(wish.message)?;
                self.park(now_ms, wish.message);
                Ok(())
            }
            action::EXTEND => self.grant_extend(now_ms, wish),
            action::WAKE => {
                if self.timers.wakes.len() >= limits::WAKES_PER_GROUP_MAX {
                    return Err(refusal::TOO_MANY);
                }
                let timers = &mut *self.timers;
                timers.wakes_made += 1;
                let due_ms = now_ms + u64::from(wish.value);
                timers.wakes.insert((due_ms, timers.wakes_made, wish.message));
                Ok(())
            }
            _ => Err(refusal::UNKNOWN_ACTION),
        }
    }

    /// A policy decides about what waits, never about what a consumer holds.
    fn decidable(&self, message: MessageId) -> Result<State, u8> {
        match self.slot(message).ok_or(refusal::NO_MESSAGE)?.state {
            State::InFlight | State::Dying | State::Promised => Err(refusal::WRONG_STATE),
            state => Ok(state),
        }
    }

    fn grant_dispatch(
        &mut self,
        now_ms: u64,
        wish: &Action,
        picks: &mut Vec<Pick>,
    ) -> Result<(), u8> {
        match self.decidable(wish.message)? {
            State::Ready | State::Offered => {}
            State::Blocked => return Err(refusal::BREAKS_ORDER),
            _ => return Err(refusal::WRONG_STATE),
        }
        let Plan { lease_ms, per_consumer, .. } = self.plan;
        let consumer = self.consumers.get(&wish.consumer).ok_or(refusal::NO_CONSUMER)?;
        let promised = consumer.promised.len();
        if consumer.places(per_consumer) as usize <= promised {
            return Err(refusal::NO_CREDIT);
        }
        // Whoever was chosen first gets it first.
        let has_room = promised == 0 && self.room(wish.consumer) > 0;
        let slot = *self.slot(wish.message).expect("it is decidable");
        self.unlist(wish.message, &slot);
        let lease_ms = if wish.value == 0 { lease_ms } else { wish.value };
        if has_room {
            picks.push(self.pick(wish.message, wish.consumer, lease_ms));
        } else {
            // Credit is the policy's to spend; how many bytes go at once is not.
            self.promise(now_ms, wish.message, wish.consumer, lease_ms);
        }
        Ok(())
    }

    fn grant_extend(&mut self, now_ms: u64, wish: &Action) -> Result<(), u8> {
        let slot = self.slot(wish.message).ok_or(refusal::NO_MESSAGE)?;
        if slot.state != State::InFlight {
            return Err(refusal::WRONG_STATE);
        }
        let consumer = self.consumers.get(&wish.consumer).ok_or(refusal::NO_CONSUMER)?;
        let tag = consumer.tag_of(wish.message).ok_or(refusal::WRONG_STATE)?;
        let delivery = consumer.deliveries.get(tag).expect("the tag was just found");
        let longest = now_ms + limits::TIMER_MS_MAX;
        let expires_ms = (delivery.expires_ms + u64::from(wish.value)).min(longest);
        let left = expires_ms.saturating_sub(now_ms) as u32;
        self.extend_lease(wish.consumer, tag, expires_ms, left);
        Ok(())
    }
}

/// The event that tells of a refused wish.
pub(crate) fn refused(wish: &Action, code: u8) -> Event {
    Event {
        kind: event::REFUSED,
        code,
        attempt: u16::from(wish.kind),
        group: wish.group,
        consumer: wish.consumer,
        value: wish.value,
        message: wish.message,
    }
}
