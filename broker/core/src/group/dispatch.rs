//! Choosing who gets which ready message: the choosers that need no policy.
//!
//! Called at the end of a turn. Rounds of picking and handing over go on until
//! no consumer has room or no message is ready.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::consumer::ConsumerId;
use super::ready::Stretch;
use super::slot::{Fate, MessageId, Slot, State, offset_of, partition_of};
use super::{Group, Io, Pick};
use crate::limits;

/// Neighbouring messages one consumer gets before it is another's turn.
const CHUNK_MAX: usize = 32;
/// Room of consumers that is looked for at once, messages.
const DEMAND_MAX: usize = 4096;
/// Stretches picked before they are handed over.
const PICKS_MAX: usize = 4096;

impl Group {
    /// Hands out what can be handed out.
    pub(crate) fn dispatch(&mut self, io: &mut Io<'_>) {
        self.begin_intake();
        if self.rests() {
            // An idle queue needs no scratch either.
            return;
        }
        let mut scratch = self.scratch.take().unwrap_or_default();
        let picks = &mut scratch.picks;
        loop {
            let kept = self.keep_promises(io);
            picks.clear();
            match (self.plan.spread, self.plan.chooser) {
                (1, _) => self.pick_for_everyone(io, picks),
                // The policy picks; the broker only shows it the window.
                (_, 0) => self.take_in(io, 0),
                (_, 2) => self.pick_fewest(io, picks),
                (_, 3) => self.pick_by_key(io, picks),
                _ => self.pick_in_turn(io, picks),
            }
            if picks.is_empty() && !kept {
                break;
            }
            self.deliver(io, picks);
        }
        self.tell_lost(io.effects);
        self.scratch = Some(scratch);
    }

    /// Bytes a consumer may hold.
    pub(super) fn bytes_per_consumer(&self) -> u64 {
        match self.plan.bytes_per_consumer {
            0 => u64::from(limits::BYTES_PER_CONSUMER),
            bytes => u64::from(bytes),
        }
    }

    /// Deliveries a consumer may receive now.
    pub(super) fn room(&self, consumer: ConsumerId) -> u32 {
        let bytes_max = self.bytes_per_consumer();
        let consumer = self.consumers.get(&consumer);
        consumer.map_or(0, |consumer| consumer.room(self.plan.per_consumer, bytes_max))
    }

    /// A consumer may have got room: it stands in line again.
    pub(super) fn open(&mut self, now_ms: u64, id: ConsumerId) {
        if self.room(id) == 0 {
            return;
        }
        if !self.any_open() {
            self.room_since_ms = now_ms;
        }
        let consumer = self.consumers.get_mut(&id).expect("a consumer with room exists");
        if !consumer.in_turn {
            consumer.in_turn = true;
            self.turn.push_back(id);
        }
    }

    /// Whether a consumer has room; the first in line then has.
    pub(super) fn any_open(&mut self) -> bool {
        while let Some(&id) = self.turn.front() {
            if self.room(id) > 0 {
                return true;
            }
            self.turn.pop_front();
            if let Some(consumer) = self.consumers.get_mut(&id) {
                consumer.in_turn = false;
            }
        }
        false
    }

    /// Room of all open consumers, as far as it matters.
    fn demand(&self) -> usize {
        let mut demand = 0;
        for &id in &self.turn {
            demand += self.room(id) as usize;
            if demand >= DEMAND_MAX {
                return DEMAND_MAX;
            }
        }
        demand
    }

    /// The next ready messages in line, of which the first is ready for certain.
    fn pop_stretch(&mut self) -> Option<Stretch> {
        let parts = &self.parts;
        self.ready.pop(|message| {
            let slot = parts[partition_of(message)].slots.get(offset_of(message));
            slot.is_some_and(|slot| slot.state == State::Ready)
        })
    }

    /// The next ready message in line.
    fn pop_ready(&mut self) -> Option<MessageId> {
        let stretch = self.pop_stretch()?;
        self.ready.put_back(stretch, 1);
        Some(stretch.first)
    }

    /// Reserves room for a message. The consumer has room.
    pub(super) fn pick(&mut self, message: MessageId, id: ConsumerId, lease_ms: u32) -> Pick {
        let slot = *self.slot(message).expect("a picked message is live");
        if slot.state != State::InFlight {
            return self.pick_waiting(Stretch { first: message, count: 1 }, u64::MAX, id, lease_ms);
        }
        // One copy of several: what others have failed at is no try of this one.
        let consumer = &self.consumers[&id];
        let attempts = consumer.tries.get(&message).copied().unwrap_or(0);
        let pulled = self.reserve(id, 1, u64::from(slot.bytes));
        Pick { message, count: 1, consumer: id, attempts, bytes: slot.bytes, pulled, lease_ms }
    }

    /// Reserves room for messages that wait: for the first of a stretch, and for those
    /// behind it that are where it is, until `bytes_max` is reached. The consumer has
    /// room for all.
    fn pick_waiting(
        &mut self,
        stretch: Stretch,
        bytes_max: u64,
        id: ConsumerId,
        lease_ms: u32,
    ) -> Pick {
        let Stretch { first: message, count: most } = stretch;
        let mut slots = self.parts[partition_of(message)].slots.run_mut(offset_of(message));
        let slot = slots.next().expect("a picked message is live");
        let first = *slot;
        let (mut count, mut bytes) = (1, u64::from(first.bytes));
        slot.go_to_one();
        while u64::from(count) < most
            && bytes < bytes_max
            && let Some(slot) = slots.next()
            && (slot.state, slot.attempts) == (first.state, first.attempts)
        {
            slot.go_to_one();
            count += 1;
            bytes += u64::from(slot.bytes);
        }
        drop(slots);
        self.counts[first.state as usize] -= count;
        self.counts[State::InFlight as usize] += count;
        let pulled = self.reserve(id, count, bytes);
        let Slot { attempts, bytes, .. } = first;
        Pick { message, count, consumer: id, attempts, bytes, pulled, lease_ms }
    }

    /// Reserves a consumer's room, and counts it in its line. True when a pull pays.
    fn reserve(&mut self, id: ConsumerId, count: u32, bytes: u64) -> bool {
        let consumer = self.consumers.get_mut(&id).expect("a picked consumer exists");
        if consumer.line.take(bytes) {
            self.lines.push(Arc::clone(&consumer.line));
        }
        consumer.reserve(count, bytes)
    }

    /// Up to `count` ready messages for one consumer, while it has room. False
    /// when nothing was ready.
    fn pick_chunk(&mut self, id: ConsumerId, count: usize, picks: &mut Vec<Pick>) -> bool {
        let mut left = self.room(id).min(count as u32);
        let bytes_max = self.bytes_per_consumer();
        let before = picks.len();
        while left > 0 {
            let consumer = &self.consumers[&id];
            let (most, bytes_left) =
                (consumer.paid_at_once().min(left), consumer.bytes_left(bytes_max));
            if bytes_left == 0 {
                break;
            }
            let Some(stretch) = self.pop_stretch() else { break };
            let wanted = Stretch { count: stretch.count.min(u64::from(most)), ..stretch };
            let pick = self.pick_waiting(wanted, bytes_left, id, self.plan.lease_ms);
            self.ready.put_back(stretch, u64::from(pick.count));
            left -= pick.count;
            picks.push(pick);
        }
        picks.len() > before
    }

    /// Chooser 1: chunks of neighbours, one consumer after another.
    fn pick_in_turn(&mut self, io: &mut Io<'_>, picks: &mut Vec<Pick>) {
        if self.any_open() {
            self.take_in(io, self.demand());
        }
        while picks.len() < PICKS_MAX && self.any_open() {
            let ready = self.in_state(State::Ready);
            let id = self.turn.pop_front().expect("somebody is open");
            let fair = match self.turn.len() {
                // Nobody else waits for a turn.
                0 => ready.max(1),
                others => ready.div_ceil(others + 1).clamp(1, CHUNK_MAX),
            };
            let picked = self.pick_chunk(id, fair, picks);
            if picked {
                self.turn.push_back(id);
            } else {
                self.turn.push_front(id);
                break;
            }
        }
    }

    /// Chooser 2: whoever holds least.
    fn pick_fewest(&mut self, io: &mut Io<'_>, picks: &mut Vec<Pick>) {
        if !self.any_open() {
            return;
        }
        self.take_in(io, self.demand());
        if self.counts[State::Ready as usize] == 0 {
            return;
        }
        let load = |group: &Self, id| Reverse((group.consumers[&id].in_flight(), id));
        let open = self.turn.iter().filter(|id| self.room(**id) > 0);
        let mut line: BinaryHeap<_> = open.map(|&id| load(self, id)).collect();
        while let Some(Reverse((in_flight, id))) = line.pop() {
            let next = line.peek().map_or(u32::MAX, |Reverse((other, _))| *other);
            let behind = (next.saturating_sub(in_flight) as usize).clamp(1, CHUNK_MAX);
            if picks.len() >= PICKS_MAX || !self.pick_chunk(id, behind, picks) {
                break;
            }
            if self.room(id) > 0 {
                line.push(load(self, id));
            }
        }
    }

    /// Chooser 3: each key has its consumer; what has no key goes in turn. A
    /// message whose consumer has no room waits for it and holds up nobody else.
    fn pick_by_key(&mut self, io: &mut Io<'_>, picks: &mut Vec<Pick>) {
        if !self.any_open() {
            return;
        }
        let open: Vec<ConsumerId> = self.turn.iter().copied().collect();
        for id in open {
            self.pick_owed(id, picks);
        }
        self.take_in(io, 0);
        self.pick_for_keys(picks);
        // All that is ready now is owed to others, who do not hold up those with room.
        while picks.is_empty() && self.any_open() && self.take_beyond(io, self.demand()) {
            self.pick_for_keys(picks);
        }
    }

    /// Chooser 3, for what is ready and nobody's yet.
    fn pick_for_keys(&mut self, picks: &mut Vec<Pick>) {
        let mut keyless = Vec::new();
        while picks.len() < PICKS_MAX {
            let Some(message) = self.pop_ready() else { break };
            let slot = *self.slot(message).expect("a ready message is live");
            let target = if slot.keyed {
                self.by_key(slot.key_hash)
            } else if self.any_open() {
                self.turn.front().copied()
            } else {
                None
            };
            match target {
                Some(id) if self.room(id) > 0 => {
                    picks.push(self.pick(message, id, self.plan.lease_ms));
                    if !slot.keyed {
                        self.turn.rotate_left(1);
                    }
                }
                Some(id) => {
                    let consumer = self.consumers.get_mut(&id).expect("chosen among them");
                    consumer.waiting.insert(message);
                }
                None => keyless.push(message),
            }
        }
        keyless.into_iter().for_each(|message| self.ready.push_again(message));
    }

    /// Hands an open consumer what waits for it in particular.
    fn pick_owed(&mut self, id: ConsumerId, picks: &mut Vec<Pick>) {
        while picks.len() < PICKS_MAX && self.room(id) > 0 {
            let consumer = self.consumers.get_mut(&id).expect("a consumer with room exists");
            let Some(message) = consumer.waiting.pop_first() else { break };
            let wanted = if self.plan.spread == 1 { State::InFlight } else { State::Ready };
            if self.slot(message).is_some_and(|slot| slot.state == wanted) {
                picks.push(self.pick(message, id, self.plan.lease_ms));
            }
        }
    }

    /// The consumer of a key: rendezvous, so that only the keys of one who comes
    /// or goes move.
    fn by_key(&self, key_hash: u32) -> Option<ConsumerId> {
        self.consumers.keys().copied().max_by_key(|&id| (rendezvous(key_hash, id), id))
    }

    /// Spread 1: each message to every consumer that is there now.
    fn pick_for_everyone(&mut self, io: &mut Io<'_>, picks: &mut Vec<Pick>) {
        if !self.any_open() {
            return;
        }
        let open: Vec<ConsumerId> = self.turn.iter().copied().collect();
        for id in open {
            self.pick_owed(id, picks);
        }
        let window = self.plan.window.max(1) as usize;
        let everyone: Vec<ConsumerId> = self.consumers.keys().copied().collect();
        while picks.len() < PICKS_MAX && self.any_open() {
            if self.consumers.values().any(|consumer| consumer.waiting.len() >= window) {
                break;
            }
            self.take_in(io, 1);
            let Some(message) = self.pop_ready() else { break };
            self.set_state(message, State::InFlight, 0);
            let slot = self.slot_mut(message).expect("a ready message is live");
            (slot.holders, slot.fate) = (everyone.len() as u16, Fate::Again);
            let tried = slot.attempts;
            if tried > 0 {
                // Tries from before there were these copies count for each of them.
                for consumer in self.consumers.values_mut() {
                    consumer.tries.entry(message).or_insert(tried);
                }
            }
            for &id in &everyone {
                if self.room(id) > 0 {
                    picks.push(self.pick(message, id, self.plan.lease_ms));
                } else {
                    let consumer = self.consumers.get_mut(&id).expect("still there");
                    consumer.waiting.insert(message);
                }
            }
        }
        // Neighbours for one consumer become runs only when they stand together.
        picks.sort_by_key(|pick| pick.consumer);
    }
}

/// Weight of a consumer for a key: a 64-bit mix of both.
fn rendezvous(key_hash: u32, consumer: ConsumerId) -> u64 {
    let mut weight = u64::from(key_hash) << 32 | u64::from(consumer);
    weight = (weight ^ weight >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    weight = (weight ^ weight >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    weight ^ weight >> 31
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, attach, distinct_keys, group, group_with_bodies};
    use super::super::intake::BEYOND_MAX;
    use super::*;
    use crate::memory_store::MemoryStore;
    use crate::policy::Plan;

    /// Returns what is with consumers then.
    fn dispatch(group: &mut Group, store: &mut MemoryStore) -> Vec<MessageId> {
        drop(fixture::dispatch(group, store));
        group.messages(|slot| slot.state == State::InFlight)
    }

    #[test]
    fn a_consumer_without_room_holds_up_its_own_keys_only() {
        for order in [0, 1] {
            let plan = Plan { chooser: 3, order, window: 3, ..Plan::AT_LEAST_ONCE };
            let mut store = MemoryStore::new(0);
            // Each key twice.
            let mut group = group(&mut store, plan, (0..200).map(|number| number % 100));
            attach(&mut group, 1, 1_000);
            attach(&mut group, 2, 0);
            let held = dispatch(&mut group, &mut store);
            let may_go = |message: MessageId| order == 0 || message < 100;
            let mut ones = group.messages(|slot| group.by_key(slot.key_hash) == Some(1));
            ones.retain(|&message| may_go(message));
            assert_eq!(held, ones);
            assert!(ones.len() > 10 && group.in_state(State::Ready) > 10, "both have keys");
            assert_eq!(group.live(), 200, "whoever has room is looked for");
            group.credit(0, 2, 1_000);
            let all: Vec<MessageId> = (0..200).filter(|&message| may_go(message)).collect();
            assert_eq!(dispatch(&mut group, &mut store), all);
        }
    }

    #[test]
    fn a_key_that_waits_holds_up_no_other() {
        for (chooser, spread) in [(1, 0), (2, 0), (3, 0), (1, 1)] {
            let plan = Plan { chooser, spread, order: 1, window: 3, ..Plan::AT_LEAST_ONCE };
            let mut store = MemoryStore::new(0);
            // 51 of one key, then one of each.
            let mut group = group(&mut store, plan, (0..60).map(|number: usize| number.max(50)));
            attach(&mut group, 1, 100);
            let held = dispatch(&mut group, &mut store);
            let expected: Vec<MessageId> = [0].into_iter().chain(51..60).collect();
            assert_eq!(held, expected, "chooser {chooser}, spread {spread}");
        }
    }

    /// Who waits behind all others is helped by nothing that comes later.
    #[test]
    fn where_all_is_one_line_the_window_is_all_that_is_taken() {
        for chooser in [1, 2, 3] {
            let plan = Plan { chooser, order: 2, window: 3, ..Plan::AT_LEAST_ONCE };
            let mut store = MemoryStore::new(0);
            let mut group = group(&mut store, plan, 0..100);
            attach(&mut group, 1, 100);
            assert_eq!(dispatch(&mut group, &mut store), [0]);
            assert_eq!(group.live(), 4, "chooser {chooser}");
        }
    }

    #[test]
    fn what_lies_far_beyond_the_window_is_found_in_several_dispatches() {
        for chooser in [1, 2, 3] {
            let plan = Plan { chooser, order: 1, window: 1, ..Plan::AT_LEAST_ONCE };
            let mut store = MemoryStore::new(0);
            let far = 2 * BEYOND_MAX;
            let mut group = group(&mut store, plan, (0..=far).map(|number| number / far));
            attach(&mut group, 1, 9);
            assert_eq!(dispatch(&mut group, &mut store), [0]);
            assert!(group.is_behind() && group.live() < BEYOND_MAX + 9, "{}", group.live());
            let mut dispatches = 1;
            while group.is_behind() {
                dispatch(&mut group, &mut store);
                dispatches += 1;
            }
            assert!(dispatches <= 3, "{dispatches}");
            let held = group.messages(|slot| slot.state == State::InFlight);
            assert_eq!(held, [0, far as u64], "chooser {chooser}");
        }
    }

    #[test]
    fn what_waits_beyond_a_small_window_is_bounded() {
        let plan = Plan { order: 1, window: 1, ..Plan::AT_LEAST_ONCE };
        let mut store = MemoryStore::new(0);
        let most = limits::SMALL_WINDOW_HELD_MAX;
        // All of one key.
        let mut group = group(&mut store, plan, std::iter::repeat_n(0, most + 5_000));
        attach(&mut group, 1, 9);
        assert_eq!(dispatch(&mut group, &mut store), [0]);
        while group.is_behind() {
            dispatch(&mut group, &mut store);
        }
        assert_eq!(group.in_state(State::Blocked), most);
        assert_eq!(group.live(), most + 1, "one is with the consumer");
    }

    #[test]
    fn long_messages_beyond_the_window_are_taken_in_more_dispatches() {
        let plan = Plan { order: 1, window: 1, ..Plan::AT_LEAST_ONCE };
        let mut store = MemoryStore::new(0);
        let one_key = std::iter::repeat_n(0, 100);
        let mut group = group_with_bodies(&mut store, plan, one_key, 256 << 10);
        attach(&mut group, 1, 9);
        assert_eq!(dispatch(&mut group, &mut store), [0]);
        assert!(group.is_behind() && group.live() < 80, "{}", group.live());
        assert_eq!(dispatch(&mut group, &mut store), [0]);
        assert!(!group.is_behind());
        assert_eq!(group.live(), 100, "the second has found the end");
    }

    /// Nobody looks at them again when consumers come and go.
    #[test]
    fn however_many_are_delayed_or_parked_an_open_consumer_is_served() {
        let most = limits::SMALL_WINDOW_HELD_MAX;
        let keys = distinct_keys(most + 2);
        // One of each key, but of the last but one 50.
        let (held, rest) = keys.split_at(most);
        let keys = held.iter().chain(std::iter::repeat_n(&rest[0], 50)).chain(&rest[1..]);
        for is_parked in [true, false] {
            let plan = Plan { order: 1, window: most as u32, ..Plan::AT_LEAST_ONCE };
            let mut store = MemoryStore::new(0);
            let mut group = group(&mut store, plan, keys.clone().copied());
            attach(&mut group, 1, 1);
            assert_eq!(dispatch(&mut group, &mut store), [0]);
            for message in group.messages(|slot| slot.state == State::Ready) {
                if is_parked {
                    group.park(0, message);
                } else {
                    group.put_back(0, message, 1_000);
                }
            }
            assert_eq!((group.live(), group.in_state(State::Ready)), (most, 0));
            group.plan.window = 1;
            group.credit(0, 1, 9);
            let first = most as u64;
            assert_eq!(dispatch(&mut group, &mut store), [0, first, first + 50]);
        }
    }
}
