//! What the small broker decides: which messages are ready, whose turn it is, and
//! which wishes of a policy it grants. Called by its turns.

use super::{Bench, Delivered, Entry, Fate, Member};
use crate::delivery::{Delivery, MessageId};
use crate::hash::Random;
use crate::step::Wish;
use crate::test::key_hash;

impl<D: Delivery> Bench<'_, D> {
    /// Shows ready messages to a policy that picks consumers itself.
    pub(super) fn show(&mut self) {
        let window = if self.plan.window == 0 { usize::MAX } else { self.plan.window as usize };
        let waiting = |entry: &Entry| matches!(entry.fate, Fate::Waiting(_));
        let open = self.entries.iter().filter(|entry| entry.shown && waiting(entry)).count();
        let mut room = window.saturating_sub(open);
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            let ready = matches!(entry.fate, Fate::Waiting(from_ms) if from_ms <= self.now_ms);
            if ready && !entry.shown && room > 0 {
                let (attempts, hash) = (entry.attempts, entry.key_hash.unwrap_or(key_hash(b"")));
                self.entries[at].shown = true;
                room -= 1;
                self.tell(1, 0, attempts, 0, hash, at as u64);
            }
        }
    }

    pub(super) fn hand_over(&mut self) {
        for at in 0..self.entries.len() {
            let ready =
                matches!(self.entries[at].fate, Fate::Waiting(from_ms) if from_ms <= self.now_ms);
            if ready
                && !self.breaks_order(at)
                && let Some(member) = self.choose(at)
            {
                self.dispatch(at, member, 0);
            }
        }
    }

    /// Whether an earlier message of the same line is still open.
    fn breaks_order(&self, at: usize) -> bool {
        let key = self.entries[at].key_hash;
        let open = |entry: &Entry| matches!(entry.fate, Fate::Waiting(_) | Fate::InFlight(..));
        self.entries.iter().enumerate().any(|(other, entry)| {
            let same_line = match self.plan.order {
                0 => false,
                1 => key.is_some() && entry.key_hash == key,
                _ => true,
            };
            let earlier = other < at || matches!(entry.fate, Fate::InFlight(..));
            same_line && other != at && earlier && open(entry)
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
        entry.attempts += 1;
        let member = &mut self.members[member];
        let (message, attempt, at_ms) = (MessageId(at as u64), entry.attempts, self.now_ms);
        self.deliveries.push(Delivered { message, consumer: member.id, attempt, at_ms });
        if self.plan.ack == 0 {
            // The client's ack only returns the credit; it comes at once here.
            self.finish(at, Fate::Settled);
        } else {
            member.credit -= 1;
            member.in_flight += 1;
            entry.fate = Fate::InFlight(member.id, self.now_ms + u64::from(lease_ms));
        }
    }

    /// Does what a policy wishes, or says why not (`wit/roles.wit`).
    pub(super) fn grant(&mut self, wish: &Wish) -> Result<(), u8> {
        if wish.kind == 7 {
            self.wakes.push((self.now_ms + u64::from(wish.value), wish.message));
            return Ok(());
        }
        let at = wish.message as usize;
        let fate = self.entries.get(at).ok_or(2)?.fate;
        let wants = |power: &str| {
            if self.manifest.wants.iter().any(|want| want == power) { Ok(()) } else { Err(6) }
        };
        match (wish.kind, fate) {
            (1, Fate::Waiting(from_ms)) if from_ms <= self.now_ms => {
                let is_it = |member: &Member| member.id.0 == wish.consumer && member.here;
                let member = self.members.iter().position(is_it).ok_or(3)?;
                if !self.has_room(&self.members[member]) {
                    return Err(4);
                }
                if self.breaks_order(at) {
                    return Err(5);
                }
                self.dispatch(at, member, wish.value);
            }
            (2, Fate::Waiting(_) | Fate::Parked) => self.wait(at, u64::from(wish.value)),
            (3, Fate::Waiting(_)) => {
                wants("dead-letter")?;
                self.finish(at, Fate::DeadLettered);
            }
            (4, Fate::Waiting(_)) => {
                wants("drop")?;
                self.finish(at, Fate::Dropped);
            }
            (5, Fate::Waiting(_)) => self.finish(at, Fate::Parked),
            (6, Fate::InFlight(consumer, until_ms)) if consumer.0 == wish.consumer => {
                self.entries[at].fate = Fate::InFlight(consumer, until_ms + u64::from(wish.value));
            }
            (1..=6, _) => return Err(7),
            _ => return Err(1),
        }
        Ok(())
    }
}
