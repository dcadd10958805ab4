//! What the small broker decides: which messages are ready, whose turn it is, and
//! which wishes of a policy it grants. Called by its turns.

use super::{Bench, Delivered, Entry, Fate, Member, TIMER_MS_MAX, WAKES_MAX, wire};
use crate::delivery::{Delivery, MessageId};
use crate::event::EventKind;
use crate::hash::Random;
use crate::manifest::{Column, Manifest, Power};
use crate::plan::Plan;
use crate::step::Wish;
use crate::test::{key_hash, wants};

/// Refuses what the broker refuses a delivery policy for.
pub(super) fn check_columns(manifest: &Manifest) -> Result<(), String> {
    let heavy = [Column::Payload, Column::Headers, Column::PayloadHead];
    match heavy.into_iter().find(|&column| manifest.columns.contains(&(column as u16))) {
        Some(column) => Err(format!(
            "asks for {column:?}, which a delivery policy cannot have: leave it out of the \
             manifest, and ask for single headers with `Manifest::header`"
        )),
        None => Ok(()),
    }
}

/// The plan as the broker carries it out: what it leaves open is filled in, what is too long
/// is cut, and without the power an exhausted message is parked.
pub(super) fn carried_out(plan: Plan, manifest: &Manifest) -> wire::Plan {
    let (plan, default) = (plan.into_wire(), Plan::at_least_once().into_wire());
    let time = |ms: u32| u64::from(ms).min(TIMER_MS_MAX) as u32;
    let or = |value: u32, default: u32| if value == 0 { default } else { value };
    let exhausted = match plan.exhausted {
        1 if wants(manifest, Power::DeadLetter) => 1,
        2 if wants(manifest, Power::Drop) => 2,
        _ => 0,
    };
    wire::Plan {
        // A policy that picks says itself who gets what.
        spread: if plan.chooser == 0 { 0 } else { plan.spread },
        exhausted,
        lease_ms: time(or(plan.lease_ms, default.lease_ms)),
        retry_first_ms: time(plan.retry_first_ms),
        retry_max_ms: time(plan.retry_max_ms.max(plan.retry_first_ms)),
        retry_growth: plan.retry_growth.max(100),
        window: or(plan.window, default.window),
        tick_ms: time(plan.tick_ms),
        ..plan
    }
}

/// Delay after `failures` failed tries, ms. It grows in us, as the broker's does.
pub(super) fn back_off_ms(plan: &wire::Plan, failures: u16) -> u64 {
    let longest_us = 1_000 * u64::from(plan.retry_max_ms);
    let mut delay_us = 1_000 * u64::from(plan.retry_first_ms);
    for _ in 1..failures {
        let grown_us = delay_us.saturating_mul(u64::from(plan.retry_growth)) / 100;
        if grown_us == delay_us || delay_us >= longest_us {
            break;
        }
        delay_us = grown_us;
    }
    delay_us.min(longest_us) / 1_000
}

impl<D: Delivery> Bench<'_, D> {
    /// Shows ready messages to a policy that picks consumers itself. What stands behind
    /// another of its line takes a place in the window, and is shown when it is first. The
    /// window bounds what is taken from the log, not what comes back.
    pub(super) fn show(&mut self) {
        let in_window = |at: &usize| self.entries[*at].taken && self.is_ready(*at);
        let waiting = (0..self.entries.len()).filter(in_window).count();
        let mut room = (self.plan.window as usize).saturating_sub(waiting);
        for at in 0..self.entries.len() {
            if !self.is_ready(at) {
                continue;
            }
            if !self.entries[at].taken {
                if room == 0 {
                    continue;
                }
                room -= 1;
                self.entries[at].taken = true;
            }
            if !self.entries[at].shown && !self.breaks_order(at) {
                self.tell_ready(at);
            }
        }
    }

    /// Hands over what has somebody to go to. A policy hears of a message as the broker
    /// takes it from the log, which is for a consumer that has room, or when it is ready
    /// again.
    pub(super) fn hand_over(&mut self) {
        for at in 0..self.entries.len() {
            if !self.is_ready(at) || self.breaks_order(at) {
                continue;
            }
            let member = self.choose(at);
            if !self.entries[at].shown && (member.is_some() || self.entries[at].taken) {
                self.tell_ready(at);
            }
            if let Some(member) = member {
                self.dispatch(at, member, 0);
            }
        }
    }

    fn is_ready(&self, at: usize) -> bool {
        matches!(self.entries[at].fate, Fate::Waiting(from_ms) if from_ms <= self.now_ms)
    }

    fn tell_ready(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        (entry.taken, entry.shown, entry.first) = (true, true, true);
        let (attempts, hash) = (entry.attempts, entry.key_hash.unwrap_or(key_hash(b"")));
        self.tell(EventKind::Ready as u8, 0, attempts, 0, hash, at as u64);
    }

    /// Whether another open message of the same line comes before it: the first, also where
    /// it was published later because this one was parked, or an earlier one.
    fn breaks_order(&self, at: usize) -> bool {
        if self.plan.order == 0 || self.entries[at].first {
            return false;
        }
        let key = self.entries[at].key_hash;
        let open = |entry: &Entry| matches!(entry.fate, Fate::Waiting(_) | Fate::InFlight(..));
        self.entries.iter().enumerate().any(|(other, entry)| {
            let same_line = match self.plan.order {
                1 => key.is_some() && entry.key_hash == key,
                _ => true,
            };
            same_line && other != at && (entry.first || other < at) && open(entry)
        })
    }

    fn has_room(&self, member: &Member) -> bool {
        let limit = if self.plan.per_consumer == 0 { u32::MAX } else { self.plan.per_consumer };
        member.here && member.credit > 0 && member.in_flight < limit
    }

    fn choose(&mut self, at: usize) -> Option<usize> {
        let members = 0..self.members.len();
        match (self.plan.chooser, self.entries[at].key_hash) {
            (3, Some(key)) => {
                let rank =
                    |&index: &usize| Random::new(u64::from(key) << 32 | index as u64).next_u64();
                let best = members.filter(|&index| self.members[index].here).max_by_key(rank)?;
                self.has_room(&self.members[best]).then_some(best)
            }
            (2, _) => members
                .filter(|&index| self.has_room(&self.members[index]))
                .min_by_key(|&index| self.members[index].in_flight),
            _ => {
                let count = members.len();
                let found = members
                    .map(|step| (self.next_turn + step) % count)
                    .find(|&index| self.has_room(&self.members[index]))?;
                self.next_turn = found + 1;
                Some(found)
            }
        }
    }

    fn dispatch(&mut self, at: usize, member: usize, lease_ms: u32) {
        let lease_ms = if lease_ms == 0 { self.plan.lease_ms } else { lease_ms };
        let entry = &mut self.entries[at];
        entry.attempts = entry.attempts.saturating_add(1);
        (entry.taken, entry.first) = (true, true);
        let member = &mut self.members[member];
        let (message, attempt, at_ms) = (MessageId(at as u64), entry.attempts, self.now_ms);
        self.deliveries.push(Delivered { message, consumer: member.id, attempt, at_ms });
        if self.plan.ack == 0 {
            // The client's ack only returns the credit; it comes at once here, and a policy
            // that counts credit hears of it.
            let consumer = member.id.0;
            self.finish(at, Fate::Settled);
            self.tell(EventKind::Credit as u8, 0, 0, consumer, 1, 0);
        } else {
            member.credit -= 1;
            member.in_flight += 1;
            let lease_ms = u64::from(lease_ms).min(TIMER_MS_MAX);
            entry.fate = Fate::InFlight(member.id, self.now_ms + lease_ms);
        }
    }

    /// Does what a policy wishes, or says why not (`wit/roles.wit`).
    pub(super) fn grant(&mut self, wish: &Wish) -> Result<(), u8> {
        let power = match wish.kind {
            3 => Some(Power::DeadLetter),
            4 => Some(Power::Drop),
            1 | 2 | 5 | 6 => None,
            7 if self.wakes.len() >= WAKES_MAX => return Err(8),
            7 => {
                self.wakes.push((self.now_ms + u64::from(wish.value), wish.message));
                return Ok(());
            }
            _ => return Err(1),
        };
        if power.is_some_and(|power| !wants(&self.manifest, power)) {
            return Err(6);
        }
        let at = wish.message as usize;
        // What still lies in the log is none that the broker knows.
        let fate = self.entries.get(at).filter(|entry| entry.taken).ok_or(2)?.fate;
        match (wish.kind, fate) {
            // What has ended is no message any more.
            (_, Fate::Settled | Fate::DeadLettered | Fate::Dropped) => return Err(2),
            (1, Fate::Waiting(from_ms)) if from_ms <= self.now_ms => {
                self.grant_dispatch(at, wish)?;
            }
            // Behind another of its line it waits for that one, and for nothing else.
            (2, Fate::Waiting(_)) if self.breaks_order(at) => {}
            (2, Fate::Waiting(_) | Fate::Parked) => {
                self.wait(at, u64::from(wish.value));
                // One that was parked enters its line now, before those that follow it.
                self.entries[at].first = !self.breaks_order(at);
            }
            (3, Fate::Waiting(_) | Fate::Parked) => self.finish(at, Fate::DeadLettered),
            (4, Fate::Waiting(_) | Fate::Parked) => self.finish(at, Fate::Dropped),
            (5, Fate::Waiting(_) | Fate::Parked) => self.finish(at, Fate::Parked),
            (6, Fate::InFlight(consumer, until_ms)) => {
                self.member_of(wish)?;
                if consumer.0 != wish.consumer {
                    return Err(7);
                }
                let longest_ms = self.now_ms + TIMER_MS_MAX;
                let until_ms = (until_ms + u64::from(wish.value)).min(longest_ms);
                self.entries[at].fate = Fate::InFlight(consumer, until_ms);
                let left_ms = (until_ms - self.now_ms) as u32;
                self.tell(EventKind::Extended as u8, 0, 0, consumer.0, left_ms, wish.message);
            }
            _ => return Err(7),
        }
        Ok(())
    }

    fn grant_dispatch(&mut self, at: usize, wish: &Wish) -> Result<(), u8> {
        if self.breaks_order(at) {
            return Err(5);
        }
        let member = self.member_of(wish)?;
        if !self.has_room(&self.members[member]) {
            return Err(4);
        }
        self.dispatch(at, member, wish.value);
        Ok(())
    }

    /// The consumer that a wish names.
    fn member_of(&self, wish: &Wish) -> Result<usize, u8> {
        let is_it = |member: &Member| member.id.0 == wish.consumer && member.here;
        self.members.iter().position(is_it).ok_or(3)
    }
}
